//! Every field of a pod's spec, sorted: honoured, honoured elsewhere, refused, or ignored with a warning.
//!
//! Each type is taken apart without `..`, so that a field that upstream adds does not compile until it is decided upon.
//! `docs/kubernetes.md` shows the same in a table. Nothing that keeps a pod in its bounds is ever ignored.

use std::fmt::Display;

use api::k8s::api::core::v1::{
    Container, ContainerPort, ContainerRestartRule, EnvFromSource, EnvVar, EnvVarSource, Lifecycle,
    LifecycleHandler, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SELinuxOptions,
    SecurityContext, Volume, VolumeMount,
};

use super::containers;
use super::volume;

/// What of a pod is not honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// For which the pod does not run.
    pub(crate) refused: Vec<String>,
    /// Without which it runs all the same.
    pub(crate) ignored: Vec<String>,
}

/// Sorts the fields of a pod.
pub(crate) fn of(pod: &Pod) -> Fields {
    let mut sorter = Sorter::default();
    match &pod.spec {
        Some(spec) => sorter.spec(pod, spec),
        None => sorter.0.refused.push("the pod has no spec".to_owned()),
    }
    sorter.0
}

#[derive(Default)]
struct Sorter(Fields);

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

impl Sorter {
    fn refuse(&mut self, when: bool, field: impl Display) {
        if when {
            self.0.refused.push(format!("{field} is not supported on this node"));
        }
    }

    fn ignore(&mut self, when: bool, field: impl Display) {
        if when {
            self.0.ignored.push(format!("{field} has no effect on this node"));
        }
    }

    fn spec(&mut self, pod: &Pod, spec: &PodSpec) {
        let PodSpec {
            // Honoured by the kubelet.
            active_deadline_seconds: _,
            containers: _,
            dns_config: _,
            dns_policy: _,
            enable_service_links: _,
            ephemeral_containers: _,
            host_aliases: _,
            host_ipc: _,
            host_network,
            host_pid: _,
            host_users: _,
            hostname: _,
            hostname_override: _,
            image_pull_secrets: _,
            init_containers: _,
            overhead: _,
            readiness_gates: _,
            resources,
            restart_policy: _,
            runtime_class_name: _,
            security_context,
            service_account_name: _,
            share_process_namespace: _,
            subdomain: _,
            termination_grace_period_seconds: _,
            volumes,
            // Honoured by the scheduler, by admission or by controllers.
            affinity: _,
            automount_service_account_token: _,
            node_name: _,
            node_selector: _,
            preemption_policy: _,
            priority: _,
            priority_class_name: _,
            scheduler_name: _,
            scheduling_gates: _,
            scheduling_group: _,
            set_hostname_as_fqdn: _,
            service_account: _,
            tolerations: _,
            topology_spread_constraints: _,
            // Not, or not wholly.
            os,
            resource_claims,
        } = spec;
        let other_os = os.as_ref().filter(|os| os.name != "linux");
        self.refuse(other_os.is_some(), "spec.os other than linux");
        self.refuse(filled(resource_claims), "spec.resourceClaims");
        self.resources("spec.resources", resources.as_ref());
        if let Some(security) = security_context {
            self.pod_security(security);
        }
        for volume in volumes.iter().flatten() {
            self.volume(pod, volume);
        }
        for container in containers::all(pod) {
            self.container(&container.field_path(), &container.spec, *host_network == Some(true));
            for mount in container.spec.volume_mounts.iter().flatten() {
                self.mount(&container.field_path(), mount, spec);
            }
        }
    }

    fn pod_security(&mut self, security: &PodSecurityContext) {
        let PodSecurityContext {
            fs_group: _,
            run_as_group: _,
            run_as_non_root: _,
            run_as_user: _,
            seccomp_profile: _,
            supplemental_groups: _,
            supplemental_groups_policy: _,
            // Honoured, or the pod is not admitted.
            app_armor_profile: _,
            sysctls: _,
            // About kinds of volumes that are not here.
            fs_group_change_policy,
            se_linux_change_policy,
            se_linux_options,
            windows_options,
        } = security;
        let field = "spec.securityContext";
        self.se_linux(field, se_linux_options.as_ref());
        self.ignore(fs_group_change_policy.is_some(), format_args!("{field}.fsGroupChangePolicy"));
        self.ignore(se_linux_change_policy.is_some(), format_args!("{field}.seLinuxChangePolicy"));
        self.refuse(windows_options.is_some(), format_args!("{field}.windowsOptions"));
    }

    fn se_linux(&mut self, field: &str, se_linux: Option<&SELinuxOptions>) {
        let asked = se_linux.is_some_and(|options| *options != SELinuxOptions::default());
        self.refuse(asked, format_args!("{field}.seLinuxOptions"));
    }

    fn resources(&mut self, field: &str, resources: Option<&ResourceRequirements>) {
        let Some(ResourceRequirements { claims, limits, requests }) = resources else { return };
        self.refuse(filled(claims), format_args!("{field}.claims"));
        for name in limits.iter().flatten().map(|(name, _)| name) {
            self.refuse(name.starts_with("hugepages-"), format_args!("{field}.limits: {name}"));
        }
        // What is asked for is the scheduler's to find.
        let _ = requests;
    }

    fn volume(&mut self, pod: &Pod, volume: &Volume) {
        let name = &volume.name;
        if let Err(why) = volume::kind(pod, volume) {
            self.0.refused.push(format!("spec.volumes{{{name}}}: {why}"));
        }
    }

    fn container(&mut self, field: &str, container: &Container, host_network: bool) {
        let Container {
            // Honoured.
            args: _,
            command: _,
            env,
            env_from,
            image: _,
            image_pull_policy: _,
            lifecycle,
            liveness_probe,
            name: _,
            ports,
            readiness_probe,
            resources,
            security_context,
            startup_probe,
            termination_message_path: _,
            termination_message_policy: _,
            stdin: _,
            stdin_once: _,
            tty: _,
            volume_mounts: _,
            working_dir: _,
            resize_policy: _,
            restart_policy: _,
            // Not, or not wholly.
            restart_policy_rules,
            volume_devices,
        } = container;
        for EnvVar { name: _, value: _, value_from } in env.iter().flatten() {
            value_from.iter().for_each(env_source);
        }
        for EnvFromSource { config_map_ref: _, prefix: _, secret_ref: _ } in env_from.iter().flatten() {}
        for ContainerPort { container_port: _, host_ip, host_port, name: _, protocol: _ } in
            ports.iter().flatten()
        {
            // The kernel routes nothing from loopback addresses to pods; on the node's own network nothing is routed.
            let mapped = !host_network && host_port.is_some_and(|port| port != 0);
            let loopback = host_ip.as_ref().and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
            let loopback = loopback.is_some_and(|ip| ip.is_loopback());
            self.refuse(mapped && loopback, format_args!("{field}.ports.hostIP of the loopback interface"));
        }
        lifecycle_fields(lifecycle.as_ref());
        for probe in [liveness_probe, readiness_probe, startup_probe].into_iter().flatten() {
            probe_fields(probe);
        }
        self.resources(&format!("{field}.resources"), resources.as_ref());
        if let Some(security) = security_context {
            self.security(&format!("{field}.securityContext"), security);
        }
        for ContainerRestartRule { action, exit_codes: _ } in restart_policy_rules.iter().flatten() {
            let known = ["Restart", "RestartAllContainers"].contains(&action.as_str());
            self.refuse(!known, format_args!("{field}.restartPolicyRules.action: {action}"));
        }
        self.refuse(filled(volume_devices), format_args!("{field}.volumeDevices"));
    }

    fn mount(&mut self, field: &str, mount: &VolumeMount, pod: &PodSpec) {
        let VolumeMount {
            mount_path: _,
            mount_propagation,
            name,
            read_only: _,
            recursive_read_only: _,
            sub_path: _,
            sub_path_expr: _,
        } = mount;
        let both = mount_propagation.as_deref() == Some("Bidirectional");
        // What is mounted in a volume that goes with its pod would have to go first; and with users of its own, a pod mounts
        // what the machine would have to see through them.
        let mut volumes = pod.volumes.iter().flatten();
        let of_node = volumes.any(|volume| volume.name == *name && volume.host_path.is_some());
        let possible = of_node && pod.host_users != Some(false);
        self.refuse(both && !possible, format_args!("{field}.volumeMounts.mountPropagation: Bidirectional"));
    }

    fn security(&mut self, field: &str, security: &SecurityContext) {
        let SecurityContext {
            allow_privilege_escalation: _,
            capabilities: _,
            privileged: _,
            read_only_root_filesystem: _,
            run_as_group: _,
            run_as_non_root: _,
            run_as_user: _,
            proc_mount: _,
            seccomp_profile: _,
            // Honoured, or the pod is not admitted.
            app_armor_profile: _,
            se_linux_options,
            windows_options,
        } = security;
        self.se_linux(field, se_linux_options.as_ref());
        self.refuse(windows_options.is_some(), format_args!("{field}.windowsOptions"));
    }
}

/// All sources of a variable are honoured.
fn env_source(source: &EnvVarSource) {
    let EnvVarSource {
        config_map_key_ref: _,
        field_ref: _,
        file_key_ref: _,
        resource_field_ref: _,
        secret_key_ref: _,
    } = source;
}

/// All of it is honoured; a hook of `tcpSocket` fails, as upstream's does.
fn lifecycle_fields(lifecycle: Option<&Lifecycle>) {
    let Some(Lifecycle { post_start, pre_stop, stop_signal: _ }) = lifecycle else { return };
    for handler in [post_start, pre_stop].into_iter().flatten() {
        let LifecycleHandler { exec: _, http_get: _, sleep: _, tcp_socket: _ } = handler;
    }
}

/// All of a probe is honoured.
fn probe_fields(probe: &Probe) {
    let Probe {
        exec: _,
        failure_threshold: _,
        grpc: _,
        http_get: _,
        initial_delay_seconds: _,
        period_seconds: _,
        success_threshold: _,
        tcp_socket: _,
        termination_grace_period_seconds: _,
        timeout_seconds: _,
    } = probe;
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::OpenApi;
    use serde_json::{Value, json};

    use super::*;

    fn sorted(spec: Value) -> Fields {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        of(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    #[test]
    fn what_is_refused_is_named() {
        let check = |spec: Value, expected: &str| {
            let found = sorted(spec).refused.join("; ");
            assert_eq!(found.replace(" is not supported on this node", ""), expected);
        };
        let container = |fields: Value| {
            let mut container = json!({"name": "c"});
            container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        check(json!({}), "");
        check(json!({"hostUsers": true}), "");
        check(json!({"hostUsers": false}), "");
        let security = json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}});
        check(security.clone(), "spec.securityContext.seLinuxOptions");
        check(container(security), "spec.containers{c}.securityContext.seLinuxOptions");
        let ports = json!({"ports": [{"containerPort": 1, "hostPort": 1, "hostIP": "127.0.0.1"}]});
        check(container(ports.clone()), "spec.containers{c}.ports.hostIP of the loopback interface");
        let mut on_host = container(ports);
        on_host["hostNetwork"] = json!(true);
        check(on_host, "");
        let claim = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
        check(claim, "");
        check(
            json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
            "spec.volumes{v}: nfs",
        );
        let rules =
            |action: &str| json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": action}]});
        check(container(rules("Restart")), "");
        let mount = |propagation: &str| json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": propagation}]});
        check(container(mount("HostToContainer")), "");
        let both = "spec.containers{c}.volumeMounts.mountPropagation: Bidirectional";
        let mut shared = container(mount("Bidirectional"));
        shared["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        check(shared.clone(), both);
        shared["volumes"] = json!([{"name": "v", "hostPath": {"path": "/v"}}]);
        check(shared.clone(), "");
        shared["hostUsers"] = json!(false);
        check(shared, both);
        check(container(rules("RestartAllContainers")), "");
        check(container(rules("Fly")), "spec.containers{c}.restartPolicyRules.action: Fly");
    }

    #[test]
    fn what_is_ignored_is_said() {
        let groups = json!({"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"});
        let found = sorted(json!({"securityContext": groups, "containers": [{"name": "c"}]}));
        assert!(found.refused.is_empty());
        assert_eq!(found.ignored, ["spec.securityContext.fsGroupChangePolicy has no effect on this node"]);
        // An ordinary pod, with what the API fills in, is told nothing.
        let ordinary = json!({
            "enableServiceLinks": true, "schedulerName": "s", "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "terminationMessagePolicy": "File", "resources": {}}],
        });
        assert_eq!(sorted(ordinary), Fields::default());
    }

    #[test]
    fn the_page_lists_every_field() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");
        let page = std::fs::read_to_string(page).unwrap();
        let said = api::descriptions::Descriptions::unpack();
        for kind in ["PodSpec", "PodSecurityContext", "Container", "SecurityContext", "Volume", "VolumeMount"]
        {
            let section = page.split(&format!("\n### {kind}\n")).nth(1).unwrap();
            let section = section.split("\n#").next().unwrap();
            let name = format!("io.k8s.api.core.v1.{kind}");
            let schema = api::schemas::builtin().openapi(&name, OpenApi::V3, &said).unwrap();
            for field in schema["properties"].as_object().unwrap().keys() {
                assert!(
                    section.contains(&format!("`{field}`")),
                    "{kind}: {field} is not in docs/kubernetes.md"
                );
            }
        }
    }
}
