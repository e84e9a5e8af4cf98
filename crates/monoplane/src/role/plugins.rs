//! placeholder until admission lands
use std::sync::Arc;
use apiserver::{Admission, ApiServer};
use auth::UserInfo;
use registry::{Admit, AdmitAll};
pub struct Plugins;
impl Plugins { pub fn new() -> Self { Self } }
impl Admission for Plugins {
    fn of_request(&self, _: &Arc<UserInfo>, _: &Arc<ApiServer>) -> Arc<dyn Admit> { Arc::new(AdmitAll) }
}
