use proptest::prelude::*;

use super::super::profile::Profile;
use super::*;

/// A call as the kernel shows it to a filter.
#[derive(Clone, Debug)]
struct Call {
    audit: u32,
    number: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel does.
fn run(program: &[u64], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let instruction = program[at];
        let operand = instruction as u32;
        let jump = |holds: bool| ((instruction >> if holds { 40 } else { 32 }) & 0xff) as usize;
        at += 1;
        match (instruction >> 48) as u16 {
            LOAD => {
                accumulator = match operand {
                    NUMBER => call.number,
                    ARCHITECTURE => call.audit,
                    at => {
                        let argument = call.arguments[(at - ARGUMENTS) as usize / 8];
                        if (at - ARGUMENTS).is_multiple_of(8) {
                            argument as u32
                        } else {
                            (argument >> 32) as u32
                        }
                    }
                }
            }
            AND => accumulator &= operand,
            RETURN => return operand,
            JUMP => at += operand as usize,
            IF_EQUAL => at += jump(accumulator == operand),
            IF_GREATER => at += jump(accumulator > operand),
            IF_GREATER_OR_EQUAL => at += jump(accumulator >= operand),
            other => panic!("{other:x} is no instruction"),
        }
    }
}

/// What a policy means, read off without a program.
fn meant(policy: &Policy, call: &Call) -> u32 {
    let Some(architecture) = policy.architectures.iter().find(|known| known.audit() == call.audit) else {
        return Action::KillProcess.code();
    };
    if *architecture == Architecture::X86_64 && call.number >= X32 {
        return Action::Errno(ENOSYS).code();
    }
    let about =
        |rule: &&Resolved| rule.names.iter().any(|name| architecture.number(name) == Some(call.number));
    let holds = |condition: &Condition| {
        let (argument, value) = (call.arguments[condition.argument as usize], condition.value);
        match condition.operator {
            Operator::Equal => argument == value,
            Operator::NotEqual => argument != value,
            Operator::Less => argument < value,
            Operator::LessOrEqual => argument <= value,
            Operator::Greater => argument > value,
            Operator::GreaterOrEqual => argument >= value,
            Operator::MaskedEqual(mask) => argument & mask == value,
        }
    };
    let rules: Vec<&Resolved> = policy.rules.iter().filter(about).collect();
    let certain = rules.iter().find(|rule| rule.conditions.is_empty());
    let found = certain.or_else(|| rules.iter().find(|rule| rule.conditions.iter().all(holds)));
    found.map_or(policy.default, |rule| rule.action).code()
}

const NAMES: [&str; 12] = [
    "read",
    "write",
    "open",
    "stat",
    "clone",
    "clone3",
    "socket",
    "mount",
    "set_tls",
    "mmap2",
    "openat2",
    "personality",
];
const ALL: [Architecture; 4] =
    [Architecture::X86_64, Architecture::X86, Architecture::Aarch64, Architecture::Arm];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        Just(Action::Trap),
        Just(Action::KillThread),
        Just(Action::KillProcess),
        (0u16..4096).prop_map(Action::Errno),
        (0u16..4096).prop_map(Action::Trace),
    ]
}

/// Numbers whose halves are often alike.
fn number() -> impl Strategy<Value = u64> {
    (0u64..3, 0u64..3, any::<bool>()).prop_map(|(high, low, top)| {
        let number = high << 32 | low;
        if top { !number } else { number }
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let operator = prop_oneof![
        Just(Operator::Equal),
        Just(Operator::NotEqual),
        Just(Operator::Less),
        Just(Operator::LessOrEqual),
        Just(Operator::Greater),
        Just(Operator::GreaterOrEqual),
        number().prop_map(Operator::MaskedEqual),
    ];
    (0u8..6, operator, number()).prop_map(|(argument, operator, value)| Condition {
        argument,
        operator,
        value,
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let names = prop::collection::vec(prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 1..5);
    let rule = (names, prop::collection::vec(condition(), 0..4), action())
        .prop_map(|(names, conditions, action)| Resolved { names, conditions, action });
    let architectures = prop::sample::subsequence(&ALL[..], 0..=4);
    (action(), architectures, prop::collection::vec(rule, 0..20))
        .prop_map(|(default, architectures, rules)| Policy { default, architectures, rules, flags: 0 })
}

proptest! {
    #[test]
    fn a_program_does_what_its_policy_means(
        policy in policy(),
        calls in prop::collection::vec((prop::sample::select(&ALL[..]), any::<prop::sample::Index>(), 0u32..3,
            prop::array::uniform6(number())), 1..40),
    ) {
        let program = compile(&policy).unwrap();
        for (architecture, name, beside, arguments) in calls {
            let number = architecture.number(NAMES[name.index(NAMES.len())]).unwrap_or(X32);
            let number = number.wrapping_add(beside).wrapping_sub(1);
            let call = Call { audit: architecture.audit(), number, arguments };
            prop_assert_eq!(run(&program, &call), meant(&policy, &call), "{:?}", call);
        }
    }
}

/// The default profile, for a container of the default capabilities and these.
fn default_program(architecture: Architecture, more: &[&str]) -> Vec<u64> {
    let names = ["CAP_CHOWN", "CAP_SYS_CHROOT"].iter().chain(more);
    let capabilities: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    let profile = Profile::parse(super::super::DEFAULT).unwrap();
    compile(&profile.resolve(architecture, &capabilities, (6, 1)).unwrap()).unwrap()
}

#[test]
fn the_default_keeps_programs_running_and_the_machine_whole() {
    let (allow, refuse) = (Action::Allow.code(), Action::Errno(1).code());
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let fate = |more: &[&str], name: &str, first: u64| {
            let number = architecture.number(name).unwrap();
            let call = Call { audit: architecture.audit(), number, arguments: [first, 0, 0, 0, 0, 0] };
            run(&default_program(architecture, more), &call)
        };
        for name in [
            "read",
            "write",
            "openat",
            "newfstatat",
            "mmap",
            "execve",
            "futex",
            "epoll_pwait",
            "accept4",
            "ptrace",
            "chroot",
            "prctl",
            "capset",
            "setuid",
            "seccomp",
            "rt_sigreturn",
            "exit_group",
            "sendfile",
            "lseek",
        ] {
            assert_eq!(fate(&[], name, 0), allow, "{name}");
        }
        for name in [
            "mount",
            "umount2",
            "unshare",
            "setns",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "io_uring_setup",
            "userfaultfd",
            "kexec_load",
            "init_module",
            "finit_module",
            "reboot",
            "swapon",
            "perf_event_open",
            "acct",
            "open_by_handle_at",
            "pivot_root",
            "settimeofday",
            "syslog",
            "move_mount",
            "fsopen",
            "quotactl",
        ] {
            assert_eq!(fate(&[], name, 0), refuse, "{name}");
        }
        assert_eq!(fate(&["CAP_SYS_ADMIN"], "mount", 0), allow);
        assert_eq!(fate(&["CAP_SYS_BOOT"], "reboot", 0), allow);
        // Threads, and processes in namespaces of their own.
        assert_eq!(fate(&[], "clone", 0x0001_0f00), allow);
        assert_eq!(fate(&[], "clone", 0x1000_0011), refuse);
        assert_eq!(fate(&["CAP_SYS_ADMIN"], "clone", 0x1000_0011), allow);
        assert_eq!(fate(&[], "clone3", 0), Action::Errno(ENOSYS).code());
        // IPv4, netlink, AF_ALG, AF_VSOCK.
        assert_eq!([2, 16, 38, 40].map(|family| fate(&[], "socket", family)), [allow, allow, refuse, refuse]);
        assert_eq!(
            [0, 0xffff_ffff, 0x4_0000].map(|kind| fate(&[], "personality", kind)),
            [allow, allow, refuse]
        );
    }
    let foreign = Call { audit: Architecture::Aarch64.audit(), number: 0, arguments: [0; 6] };
    let program = default_program(Architecture::X86_64, &[]);
    assert_eq!(run(&program, &foreign), Action::KillProcess.code());
    assert!(program.len() < 1000, "{}", program.len());
}

#[test]
fn a_profile_that_the_kernel_would_not_take_is_refused() {
    let conditions = (0..6).map(|argument| Condition { argument, operator: Operator::Greater, value: 1 });
    let conditions: Vec<Condition> = conditions.collect();
    let rule = Resolved { names: vec!["read".into()], conditions, action: Action::Log };
    let policy = Policy {
        default: Action::Allow,
        architectures: vec![Architecture::X86_64],
        rules: vec![rule; 200],
        flags: 0,
    };
    assert!(compile(&policy).unwrap_err().contains("at most 4096"));
}
