//! PodTemplates.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, object};

struct PodTemplate;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "PodTemplate"),
        rules: Rules { generation: Generation::AllButMetadata, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Containers", "Images", "Pod Labels"]),
        strategy: Arc::new(PodTemplate),
    }
}

impl Strategy for PodTemplate {
    fn default(&self, holder: &mut Value) {
        object(holder, "template");
        if let Some(template) = holder.get_mut("template") {
            template::fill(template);
        }
    }

    fn validate(&self, holder: &Value, errors: &mut Vec<FieldError>) {
        let template = holder.get("template").unwrap_or(&Value::Null);
        template::validate_template(template, &Path::new("template"), errors);
    }

    fn warnings(&self, holder: &Value) -> Vec<String> {
        template::warnings(holder.get("template"), &Path::new("template"))
    }

    fn cells(&self, holder: &Value, _now: Timestamp) -> Vec<Value> {
        let [names, images] = template::container_cells(holder.get("template"));
        let labels = template::labels_cell(at(holder, &["template", "metadata", "labels"]));
        vec![table::name(holder), names, images, labels]
    }
}
