//! A node's lease, in what tells of life.

use client::ObjectMeta;
use client::kube::Resource;
use client::reflector::identity;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use std::borrow::Cow;

/// There is one of each node, and each changes every ten seconds: what is not named here is never made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Which it is.
    #[serde(deserialize_with = "identity")]
    pub metadata: ObjectMeta,
    /// What its holder says.
    pub spec: Option<Spec>,
}

/// See [`Lease`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// When its holder last said that it is there, by the holder's clock.
    pub renew_time: Option<MicroTime>,
}

impl Lease {
    /// Whether its holder has spoken since an earlier version of it.
    pub(super) fn is_renewed(&self, before: Option<&Self>) -> bool {
        let time = |lease: &Self| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        before.is_none_or(|before| time(before) != time(self))
    }
}

impl Resource for Lease {
    type DynamicType = ();
    type Scope = <coordination::Lease as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        coordination::Lease::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        coordination::Lease::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        coordination::Lease::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        coordination::Lease::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
