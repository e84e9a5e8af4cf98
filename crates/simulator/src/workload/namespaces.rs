//! Namespaces, with all that is in them.

use client::kube::api::{Api, DeleteParams, PostParams};
use client::write::is_already_exists;
use client::{Error, ObjectMeta};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;

use super::{NAMESPACES, User};

fn api(user: &User) -> Api<Namespace> {
    Api::all(user.client.clone())
}

pub async fn create(user: &User, name: &str) -> Result<(), Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    match api(user).create(&PostParams::default(), &namespace).await {
        Err(error) if is_already_exists(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Those that are missing.
pub async fn create_all(user: &User) -> Result<(), Error> {
    for namespace in NAMESPACES {
        create(user, namespace).await?;
    }
    Ok(())
}

/// One goes; those that went before come back, if they have gone by now.
pub fn delete(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        create_all(user).await?;
        api(user).delete(user.namespace(), &DeleteParams::default()).await.map(drop)
    }
    .boxed()
}
