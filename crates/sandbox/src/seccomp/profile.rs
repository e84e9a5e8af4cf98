//! Profiles as they are written, and what is left of one for a container on this machine.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::architecture::Architecture;

/// The kernel's EPERM, what a refused call gives if a profile names nothing else.
const EPERM: u32 = 1;
/// Numbers of errors that a program takes for such end here.
const MAX_ERRNO: u32 = 4095;
/// Flags of a filter, in the kernel's numbers.
const LOG: u32 = 1 << 1;
pub(super) const SPEC_ALLOW: u32 = 1 << 2;

/// A profile in the form of Docker and of the OCI configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    /// Docker's form of the same, by the machine's own architecture.
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Option<Vec<String>>,
    /// Docker's older form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Log,
    /// With a number for whoever traces the process; nobody does, and then the call fails.
    Trace(u16),
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Those bits of the argument that are in the mask.
    MaskedEqual(u64),
}

/// A condition on one argument, of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

/// A rule that holds: for these names, if all conditions do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) names: Vec<String>,
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// What of a profile holds for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) default: Action,
    pub(super) architectures: Vec<Architecture>,
    pub(super) rules: Vec<Resolved>,
    pub(super) flags: u32,
}

impl Profile {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What holds for a container of these capabilities, on a kernel of this version.
    pub(super) fn resolve(
        &self,
        native: Architecture,
        capabilities: &[String],
        kernel: (u32, u32),
    ) -> Result<Policy, String> {
        let default = action(&self.default_action, self.default_errno_ret)
            .map_err(|why| format!("defaultAction: {why}"))?;
        let mut rules = Vec::new();
        for (number, rule) in self.syscalls.iter().flatten().enumerate() {
            let at = |why: String| format!("syscalls[{number}]: {why}");
            let names: Vec<String> = rule.names.iter().flatten().chain(&rule.name).cloned().collect();
            if names.is_empty() {
                return Err(at("it names no call".to_owned()));
            }
            // As runc has it: a rule without a number of its own has the default's.
            let action = action(&rule.action, rule.errno_ret.or(self.default_errno_ret)).map_err(at)?;
            let conditions = rule.conditions().map_err(at)?;
            if rule.holds(native, capabilities, kernel).map_err(at)? {
                rules.extend(split(names, conditions, action));
            }
        }
        Ok(Policy { default, architectures: self.architectures(native), rules, flags: self.flags()? })
    }

    /// The machine's own, and what the profile lists beside it that the machine runs too.
    fn architectures(&self, native: Architecture) -> Vec<Architecture> {
        let mapped = self.arch_map.iter().flatten();
        let mapped = mapped.filter(|map| Architecture::parse(&map.architecture) == Some(native));
        let listed = mapped.flat_map(|map| map.sub_architectures.iter().flatten());
        let mut found = vec![native];
        for name in self.architectures.iter().flatten().chain(listed) {
            found.extend(Architecture::parse(name).filter(|architecture| !found.contains(architecture)));
        }
        found
    }

    fn flags(&self) -> Result<u32, String> {
        // As runc has it: without a word, a filter does not slow down the processor's speculation.
        let Some(flags) = &self.flags else { return Ok(SPEC_ALLOW) };
        let number = |flag: &String| match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => Ok(LOG),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(SPEC_ALLOW),
            // Whoever installs it has one thread.
            "SECCOMP_FILTER_FLAG_TSYNC" => Ok(0),
            other => Err(format!("flags: {other:?} is not supported")),
        };
        flags.iter().map(number).try_fold(0, |all, flag| Ok(all | flag?))
    }
}

impl Rule {
    fn conditions(&self) -> Result<Vec<Condition>, String> {
        let condition = |argument: &Argument| {
            let Argument { index, value, value_two, op } = argument;
            if *index > 5 {
                return Err(format!("args: a call has no argument {index}"));
            }
            let (operator, value) = match op.as_str() {
                "SCMP_CMP_EQ" => (Operator::Equal, *value),
                "SCMP_CMP_NE" => (Operator::NotEqual, *value),
                "SCMP_CMP_LT" => (Operator::Less, *value),
                "SCMP_CMP_LE" => (Operator::LessOrEqual, *value),
                "SCMP_CMP_GT" => (Operator::Greater, *value),
                "SCMP_CMP_GE" => (Operator::GreaterOrEqual, *value),
                "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual(*value), *value_two),
                other => return Err(format!("args: {other:?} is no comparison")),
            };
            Ok(Condition { argument: *index, operator, value })
        };
        self.args.iter().flatten().map(condition).collect()
    }

    fn holds(&self, native: Architecture, caps: &[String], kernel: (u32, u32)) -> Result<bool, String> {
        let nothing = Conditions::default();
        let includes = self.includes.as_ref().unwrap_or(&nothing);
        let excludes = self.excludes.as_ref().unwrap_or(&nothing);
        let native = native.go_name().to_owned();
        let new_enough = |conditions: &Conditions| {
            let version = conditions.min_kernel.as_deref().filter(|version| !version.is_empty());
            version.map(|version| minimum(version).map(|least| kernel >= least)).transpose()
        };
        let listed =
            |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect::<BTreeSet<String>>();
        let arches = listed(&includes.arches);
        let included = (arches.is_empty() || arches.contains(&native))
            && listed(&includes.caps).iter().all(|cap| caps.contains(cap))
            && new_enough(includes)?.unwrap_or(true);
        let excluded = listed(&excludes.arches).contains(&native)
            || listed(&excludes.caps).iter().any(|cap| caps.contains(cap))
            || new_enough(excludes)?.unwrap_or(false);
        Ok(included && !excluded)
    }
}

/// Conditions hold together; but several on one argument stand each for itself, as runc has it.
fn split(names: Vec<String>, conditions: Vec<Condition>, action: Action) -> Vec<Resolved> {
    let arguments: BTreeSet<u8> = conditions.iter().map(|condition| condition.argument).collect();
    if arguments.len() == conditions.len() {
        return vec![Resolved { names, conditions, action }];
    }
    let alone = |condition| Resolved { names: names.clone(), conditions: vec![condition], action };
    conditions.into_iter().map(alone).collect()
}

fn action(name: &str, number: Option<u32>) -> Result<Action, String> {
    let number = number.unwrap_or(EPERM);
    let short = || {
        let fits = u16::try_from(number).ok().filter(|_| number <= MAX_ERRNO);
        fits.ok_or_else(|| format!("errnoRet: {number} is no error's number"))
    };
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(short()?)),
        "SCMP_ACT_TRACE" => Ok(Action::Trace(short()?)),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_NOTIFY" => Err("SCMP_ACT_NOTIFY is not supported: nobody here would answer".to_owned()),
        other => Err(format!("{other:?} is no action")),
    }
}

/// The first two numbers of a kernel's release.
pub(super) fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn minimum(version: &str) -> Result<(u32, u32), String> {
    let numbers = version.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| format!("minKernel: {version:?} is not of the form 4.8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, capabilities: &[&str]) -> Result<Policy, String> {
        let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        Profile::parse(text)?.resolve(Architecture::X86_64, &capabilities, (6, 1))
    }

    fn rule(rule: &str, capabilities: &[&str]) -> Result<Vec<Resolved>, String> {
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#);
        Ok(resolved(&text, capabilities)?.rules)
    }

    #[test]
    fn rules_hold_where_their_conditions_do() {
        let held = |conditions: &str, capabilities: &[&str]| {
            let text = format!(r#"{{"names":["bpf"],"action":"SCMP_ACT_ALLOW",{conditions}}}"#);
            rule(&text, capabilities).unwrap().len() == 1
        };
        assert!(held(r#""args":null"#, &[]));
        let caps = r#""includes":{"caps":["CAP_BPF"]}"#;
        assert!(held(caps, &["CAP_BPF"]) && !held(caps, &["CAP_KILL"]));
        let caps = r#""excludes":{"caps":["CAP_BPF"]}"#;
        assert!(!held(caps, &["CAP_BPF"]) && held(caps, &["CAP_KILL"]));
        assert!(held(r#""includes":{"arches":["amd64"]}"#, &[]));
        assert!(!held(r#""includes":{"arches":["s390x"]}"#, &[]));
        assert!(!held(r#""excludes":{"arches":["amd64"]}"#, &[]));
        assert!(
            held(r#""includes":{"minKernel":"4.8"}"#, &[]) && held(r#""includes":{"minKernel":""}"#, &[])
        );
        assert!(!held(r#""includes":{"minKernel":"6.2"}"#, &[]));
        assert!(
            held(r#""excludes":{"minKernel":"6.2"}"#, &[]) && !held(r#""excludes":{"minKernel":"5.0"}"#, &[])
        );
    }

    #[test]
    fn several_conditions_on_one_argument_stand_each_for_itself() {
        let text = |second: u8| {
            format!(
                r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                    {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{second},"value":2,"op":"SCMP_CMP_NE"}}]}}"#
            )
        };
        assert_eq!(rule(&text(1), &[]).unwrap().len(), 1);
        assert_eq!(rule(&text(0), &[]).unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_says_where() {
        let check = |text: &str, words: &str| {
            let error = resolved(text, &[]).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check("{}", "defaultAction");
        check("[1", "line 1");
        check(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY is not supported");
        check(r#"{"defaultAction":"ALLOW"}"#, r#""ALLOW" is no action"#);
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "flags");
        let rule = |rule: &str, words: &str| {
            let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#);
            check(&text, &format!("syscalls[0]: {words}"));
        };
        rule(r#"{"action":"SCMP_ACT_ALLOW"}"#, "it names no call");
        rule(r#"{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":70000}"#, "errnoRet");
        let argument = |index: u8, op: &str| {
            format!(
                r#"{{"names":["a"],"action":"SCMP_ACT_LOG","args":[{{"index":{index},"value":1,"op":"{op}"}}]}}"#
            )
        };
        rule(&argument(6, "SCMP_CMP_EQ"), "args: a call has no argument 6");
        rule(&argument(0, "="), "args");
        let kernel = r#"{"names":["a"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"new"}}"#;
        rule(kernel, "minKernel");
    }

    #[test]
    fn architectures_and_flags_are_as_the_profile_says() {
        let with =
            |more: &str| resolved(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{more}}}"#), &[]).unwrap();
        assert_eq!(with("").architectures, [Architecture::X86_64]);
        assert_eq!(with("").flags, SPEC_ALLOW);
        let listed =
            with(r#","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"],"flags":["SECCOMP_FILTER_FLAG_LOG"]"#);
        assert_eq!(listed.architectures, [Architecture::X86_64, Architecture::X86]);
        assert_eq!(listed.flags, LOG);
        let default = resolved(super::super::DEFAULT, &[]).unwrap();
        assert_eq!(default.architectures, [Architecture::X86_64, Architecture::X86]);
    }

    #[test]
    fn releases_are_read_as_kernels_write_them() {
        assert_eq!(kernel_version("6.18.33-1+deb12"), (6, 18));
        assert_eq!(kernel_version("5.4"), (5, 4));
        assert_eq!(kernel_version("?"), (0, 0));
    }
}
