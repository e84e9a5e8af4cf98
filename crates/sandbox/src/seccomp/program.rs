//! From rules to the instructions that the kernel runs at each system call (classic BPF).
//!
//! Written here, since the compilers there are know one action beside the default, one architecture, or want a C library:
//! `docs/decisions/0005-seccomp.md`. For each architecture, calls of neighbouring numbers that come to the same are one
//! range, and the range is found by halving: about 8 comparisons for the default profile.

use std::collections::BTreeMap;

use super::architecture::{Architecture, X32};
use super::profile::{Action, Condition, Operator, Policy, Resolved};

/// What the kernel takes at most (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
/// Where the kernel lays the call's number, its architecture and the first argument (`struct seccomp_data`).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// What a kernel without such a call says.
const ENOSYS: u16 = 38;

/// Jumps to the end of a rule's conditions or of the whole rule, before it is known how far that is.
const PASS: u8 = 254;
const FAIL: u8 = 255;

/// One instruction, in the kernel's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    operation: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

// BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K, and BPF_JMP with JA, JEQ, JGT, JGE.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;

fn plain(operation: u16, operand: u32) -> Instruction {
    Instruction { operation, if_true: 0, if_false: 0, operand }
}

fn branch(operation: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { operation, if_true, if_false, operand }
}

impl Instruction {
    fn encode(self) -> u64 {
        u64::from(self.operation) << 48
            | u64::from(self.if_true) << 40
            | u64::from(self.if_false) << 32
            | u64::from(self.operand)
    }
}

impl Action {
    /// `SECCOMP_RET_*`.
    fn code(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// What is done about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Certain(Action),
    /// The first of these whose conditions hold, or the default.
    Conditional(Vec<(Vec<Condition>, Action)>),
}

/// Compiles a policy. Calls of an architecture that it does not name kill the process.
pub(super) fn compile(policy: &Policy) -> Result<Vec<u64>, String> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for architecture in &policy.architectures {
        let body = body(*architecture, policy);
        program.push(branch(IF_EQUAL, architecture.audit(), 1, 0));
        program.push(plain(JUMP, length(&body)));
        program.extend(body);
    }
    program.push(plain(RETURN, Action::KillProcess.code()));
    match program.len() <= MAX_INSTRUCTIONS {
        true => Ok(program.into_iter().map(Instruction::encode).collect()),
        false => {
            Err(format!("it takes {} instructions, and the kernel at most {MAX_INSTRUCTIONS}", program.len()))
        }
    }
}

fn length(body: &[Instruction]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

/// All that is done about the calls of one architecture.
fn body(architecture: Architecture, policy: &Policy) -> Vec<Instruction> {
    let default = Fate::Certain(policy.default);
    let mut ranges = vec![(0, default.clone())];
    for (number, fate) in fates(architecture, policy) {
        ranges.pop_if(|(start, _)| *start == number);
        ranges.push((number, fate));
        ranges.push((number.saturating_add(1), default.clone()));
    }
    if architecture == Architecture::X86_64 {
        // Calls by other numbers, which no rule sees: there are none, as far as the container knows.
        ranges.push((X32, Fate::Certain(Action::Errno(ENOSYS))));
    }
    ranges.dedup_by(|next, before| next.1 == before.1);
    let mut body = vec![plain(LOAD, NUMBER)];
    body.extend(search(&ranges, policy.default));
    body
}

/// The calls that a rule is about, by number.
fn fates(architecture: Architecture, policy: &Policy) -> BTreeMap<u32, Fate> {
    let mut found: BTreeMap<u32, Fate> = BTreeMap::new();
    for Resolved { names, conditions, action } in &policy.rules {
        for number in names.iter().filter_map(|name| architecture.number(name)) {
            let fate = found.entry(number).or_insert_with(|| Fate::Conditional(Vec::new()));
            match fate {
                // As libseccomp has it: a rule without conditions stands above those with some.
                Fate::Certain(_) => {}
                Fate::Conditional(_) if conditions.is_empty() => *fate = Fate::Certain(*action),
                Fate::Conditional(rules) => rules.push((conditions.clone(), *action)),
            }
        }
    }
    found
}

/// Finds the range that the number in the accumulator lies in.
fn search(ranges: &[(u32, Fate)], default: Action) -> Vec<Instruction> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (Some((start, _)), false) = (upper.first(), lower.is_empty()) else {
        return ranges.first().map(|(_, fate)| decide(fate, default)).unwrap_or_default();
    };
    let (lower, upper) = (search(lower, default), search(upper, default));
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![branch(IF_GREATER_OR_EQUAL, *start, distance, 0)],
        // A branch reaches 255 instructions, a jump any number.
        Err(_) => vec![branch(IF_GREATER_OR_EQUAL, *start, 0, 1), plain(JUMP, length(&lower))],
    };
    code.extend(lower);
    code.extend(upper);
    code
}

fn decide(fate: &Fate, default: Action) -> Vec<Instruction> {
    let rules = match fate {
        Fate::Certain(action) => return vec![plain(RETURN, action.code())],
        Fate::Conditional(rules) => rules,
    };
    let mut code = Vec::new();
    for (conditions, action) in rules {
        let mut tests: Vec<Instruction> = Vec::new();
        for condition in conditions {
            let mut test = test(*condition);
            arrive(&mut test, PASS, 0);
            tests.extend(test);
        }
        // Behind the tests lies the action, and behind that the next rule.
        arrive(&mut tests, FAIL, 1);
        code.extend(tests);
        code.push(plain(RETURN, action.code()));
    }
    code.push(plain(RETURN, default.code()));
    code
}

/// Makes the jumps that bear a mark lead to `beyond` instructions behind the end.
fn arrive(code: &mut [Instruction], mark: u8, beyond: usize) {
    let count = code.len();
    for (at, instruction) in code.iter_mut().enumerate().filter(|(_, instruction)| is_branch(instruction)) {
        // A call has six arguments and a test at most seven instructions: 254 are never reached.
        let distance = u8::try_from(count - at - 1 + beyond).unwrap_or(mark);
        for jump in [&mut instruction.if_true, &mut instruction.if_false] {
            if *jump == mark {
                *jump = distance;
            }
        }
    }
}

fn is_branch(instruction: &Instruction) -> bool {
    matches!(instruction.operation, IF_EQUAL | IF_GREATER | IF_GREATER_OR_EQUAL)
}

/// Compares an argument: first its high half, and if that does not settle it, the low one. Falls through, or jumps to
/// [`PASS`], if the condition holds, and to [`FAIL`] if not.
fn test(condition: Condition) -> Vec<Instruction> {
    let Condition { argument, operator, value } = condition;
    // Both architectures are little endian.
    let low_at = ARGUMENTS + 8 * u32::from(argument);
    let (load_low, load_high) = (plain(LOAD, low_at), plain(LOAD, low_at + 4));
    let (low, high) = (value as u32, (value >> 32) as u32);
    let equal = |if_true, if_false| branch(IF_EQUAL, high, if_true, if_false);
    match operator {
        Operator::Equal => vec![load_high, equal(0, FAIL), load_low, branch(IF_EQUAL, low, 0, FAIL)],
        Operator::NotEqual => vec![load_high, equal(0, PASS), load_low, branch(IF_EQUAL, low, FAIL, 0)],
        Operator::MaskedEqual(mask) => vec![
            load_high,
            plain(AND, (mask >> 32) as u32),
            equal(0, FAIL),
            load_low,
            plain(AND, mask as u32),
            branch(IF_EQUAL, low, 0, FAIL),
        ],
        Operator::Greater | Operator::GreaterOrEqual => {
            let last = if operator == Operator::Greater { IF_GREATER } else { IF_GREATER_OR_EQUAL };
            vec![
                load_high,
                branch(IF_GREATER, high, PASS, 0),
                equal(0, FAIL),
                load_low,
                branch(last, low, 0, FAIL),
            ]
        }
        Operator::Less | Operator::LessOrEqual => {
            // The opposite of the other's opposite.
            let last = if operator == Operator::Less { IF_GREATER_OR_EQUAL } else { IF_GREATER };
            vec![
                load_high,
                branch(IF_GREATER, high, FAIL, 0),
                equal(0, PASS),
                load_low,
                branch(last, low, FAIL, 0),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
