//! An Ingress that names no class gets the default one.

use apimachinery::gvk::GroupResource;
use apimachinery::meta;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, set_spec};
use crate::{Attributes, Lookup, Operation, Plugin};

const CLASSES: GroupResource = GroupResource::of("networking.k8s.io", "ingressclasses");
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How a class was named before there was a field for it.
const NAMED: &str = "kubernetes.io/ingress.class";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses")
    }

    async fn mutate(
        &self,
        _: &Attributes<'_>,
        ingress: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if at(ingress, &["spec", "ingressClassName"]).is_some() || meta::annotation(ingress, NAMED).is_some()
        {
            return Ok(());
        }
        let classes = lookup.list(&CLASSES, "").await?;
        let defaults = classes.iter().filter(|class| meta::annotation(class, IS_DEFAULT) == Some("true"));
        // Of several the newest counts, then the first by name.
        let newest = defaults
            .min_by_key(|class| (std::cmp::Reverse(meta::creation_timestamp(class)), meta::name(class)));
        if let Some(class) = newest {
            set_spec(ingress, "ingressClassName", meta::name(class));
        }
        Ok(())
    }
}
