//! The group `resource.k8s.io`: devices that drivers offer and pods claim. Who gets which is for schedulers and drivers to
//! say; here lies what they say it in. As v1.36 has it by default: what its alpha gates cover is dropped.

mod binding;
mod claim_spec;
mod claim_status;
mod device;
pub(crate) mod device_class;
mod lists;
mod names;
mod opaque;
mod request_policy;
pub(crate) mod resource_claim;
pub(crate) mod resource_claim_template;
pub(crate) mod resource_slice;
mod selector;
mod taints;
