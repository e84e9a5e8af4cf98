//! Bootstrap tokens: taken away when they have expired, and used to sign what a joining machine must know of the cluster.

pub mod signer;
pub mod token_cleaner;

use crate::World;
use auth::bootstrap_token::{NAMESPACE, SECRET_TYPE, TokenSecret};
use client::Reader;
use client::kube::{Api, ResourceExt};
use client::reflector::Selection;
use k8s_openapi::api::core::v1::Secret;

/// The tokens' Secrets and no others.
fn secrets(world: &World) -> Reader<Secret> {
    let selection = Selection { fields: Some(format!("type={SECRET_TYPE}")), ..Selection::default() };
    world.reader_of(Api::<Secret>::namespaced(world.client().clone(), NAMESPACE), selection)
}

/// What a Secret says of a token.
fn token_of(secret: &Secret) -> Option<TokenSecret> {
    let value = |key: &str| Some(secret.data.as_ref()?.get(key)?.0.clone());
    TokenSecret::read(&secret.name_any(), secret.type_.as_deref().unwrap_or_default(), value)
}
