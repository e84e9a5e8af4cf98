//! Makes `descriptions.z`: what Kubernetes says of its kinds and their fields, compressed.
//!
//! The sentences come from k8s-openapi, whose `schemars` feature turns its doc comments into schemas. Asking for that here
//! rather than in the crate itself keeps seven hundred functions that print schemas out of the program: it holds their
//! outcome, at a tenth of the size, and unpacks it while somebody wants an OpenAPI document. See
//! `docs/decisions/0012-descriptions.md`.
//!
//! The format is read in `src/descriptions.rs`: a line a definition (`:NAME`, a tab, its description), followed by a line
//! for each of its fields (`NAME`, a tab, its description). Lines break nowhere else; what breaks in a description is
//! written `\n`, and a backslash `\\`.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling,
    batch::v1 as batch, certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, networking::v1 as networking, node::v1 as node,
    policy::v1 as policy, rbac::v1 as rbac, resource::v1 as resource, scheduling::v1 as scheduling,
    storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

macro_rules! ask {
    ($generator:ident: $($group:ident { $($kind:ident),* $(,)? })*) => {
        $($( let _ = $generator.subschema_for::<$group::$kind>(); )*)*
    };
}

/// Everything that the server serves, and with it what these refer to.
fn ask_for_kinds(generator: &mut SchemaGenerator) {
    ask!(generator:
        core {
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
            ServiceAccount,
        }
        admission {
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        }
        apiextensions { CustomResourceDefinition }
        apiregistration { APIService }
        apps { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
        authentication { SelfSubjectReview, TokenRequest, TokenReview }
        authorization {
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        }
        autoscaling { HorizontalPodAutoscaler }
        autoscaling_v1 { HorizontalPodAutoscaler, Scale }
        batch { CronJob, Job }
        certificates { CertificateSigningRequest }
        coordination { Lease }
        discovery { EndpointSlice }
        events { Event }
        networking { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR }
        node { RuntimeClass }
        policy { Eviction, PodDisruptionBudget }
        rbac { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
        resource { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        scheduling { PriorityClass }
        storage {
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
        }
        meta {
            APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions, LabelSelector, ListMeta, ObjectMeta,
            Status,
        }
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    ask_for_kinds(&mut generator);
    let mut text = String::new();
    for (name, definition) in generator.take_definitions(false) {
        line(&mut text, &format!(":{name}"), &definition);
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            line(&mut text, field, schema);
        }
    }
    let file = Path::new(&env::var("OUT_DIR")?).join("descriptions.z");
    let mut encoder = DeflateEncoder::new(File::create(file)?, Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    Ok(())
}

fn line(text: &mut String, name: &str, schema: &Value) {
    let Some(description) = schema["description"].as_str() else { return };
    let description = description.replace('\\', "\\\\").replace('\n', "\\n");
    text.push_str(&format!("{name}\t{description}\n"));
}
