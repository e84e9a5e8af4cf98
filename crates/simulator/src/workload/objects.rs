//! Single objects: pods that somebody deletes, and objects that belong to others.

use client::Error;
use client::kube::ResourceExt;
use client::kube::api::{ApiResource, DeleteParams, ListParams};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use super::User;

pub fn delete_pod(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (pods, namespace) = (ApiResource::erase::<Pod>(&()), user.namespace());
        match user.existing(&pods, namespace).await? {
            Some(name) => user.api(&pods, namespace).delete(&name, &DeleteParams::default()).await.map(drop),
            None => Ok(()),
        }
    }
    .boxed()
}

/// A ConfigMap that belongs to something, and so must go with it.
pub fn dependent(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let namespace = user.namespace();
        let kind = user
            .chance
            .pick(&[
                ApiResource::erase::<Deployment>(&()),
                ApiResource::erase::<ReplicaSet>(&()),
                ApiResource::erase::<Pod>(&()),
            ])
            .clone();
        let found = user.api(&kind, namespace).list(&ListParams::default()).await?.items;
        if found.is_empty() {
            return Ok(());
        }
        let owner = user.chance.pick(&found);
        let reference = json!([{
            "apiVersion": kind.api_version, "kind": kind.kind, "name": owner.name_any(), "uid": owner.uid(),
            "blockOwnerDeletion": user.chance.in_a_thousand(500),
        }]);
        let map = json!({ "metadata": { "generateName": "dependent-", "ownerReferences": reference } });
        user.make(&ApiResource::erase::<ConfigMap>(&()), namespace, map).await
    }
    .boxed()
}
