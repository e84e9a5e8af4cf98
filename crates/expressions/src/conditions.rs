//! Match conditions: whether a webhook or a policy is asked about a request at all.

use cel::{Budget, MATCH_CONDITIONS_BUDGET};
use serde_json::Value;

use crate::environment::{Speaks, env};
use crate::evaluate::{Evaluation, Inputs};
use crate::expression::{Expression, Returns};

/// Conditions that must all hold.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    /// The `matchConditions` of a webhook or a policy; `params` says whether they may speak of parameters.
    pub fn compile(owner: &Value, params: bool) -> Self {
        let all = owner.get("matchConditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if all.is_empty() {
            return Self::default();
        }
        let env = env(Speaks { params, authorizer: true });
        let expressions = all.iter().filter_map(|condition| condition.get("expression")?.as_str());
        Self(expressions.map(|source| Expression::compile(&env, source, Returns::Bool)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not counts, whatever is wrong with others.
    ///
    /// # Errors
    /// Why that cannot be made out.
    pub fn hold(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        let mut evaluation = Evaluation::new(inputs, &[]);
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut errors: Vec<String> = Vec::new();
        let mut hold = true;
        for condition in &self.0 {
            match evaluation.run(condition, &mut budget).map_err(|exhausted| exhausted.to_string())? {
                Ok(value) => hold &= value.as_bool() != Some(false),
                Err(why) if errors.contains(&why) => {}
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            _ if !hold => Ok(false),
            [] => Ok(true),
            [only] => Err(only.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}
