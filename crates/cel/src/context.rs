//! What an evaluation may use up, and what it keeps to itself.

use crate::error::EvalError;
use crate::library::regex::{Pattern, Patterns};
use crate::value::Value;

/// Elementary steps of one evaluation (comparing two numbers of JSON, copying sixteen bytes; two values take four). Costs follow
/// upstream's scheme, which takes some things for cheaper than they can be made; this keeps those within a tenth of a second
/// as well.
const MAX_WORK: u64 = 3_000_000;
/// Bytes of all that one evaluation makes: texts, lists and maps. While something is made it may be there twice, with as much
/// room to grow, so that an evaluation holds four times that at most.
pub const MAX_MADE: usize = 16 << 20;
/// Bytes of an entry of a map: its key, and both as they were written.
const ENTRY: usize = 160;

/// The state of one evaluation beside its variables.
pub(crate) struct Context {
    cost: u64,
    limit: u64,
    over: EvalError,
    work: u64,
    made: usize,
    patterns: Patterns,
}

impl Context {
    /// An evaluation that may cost so much, and ends with that error when it would cost more.
    pub(crate) fn new(limit: u64, over: EvalError) -> Self {
        Self { cost: 0, limit, over, work: 0, made: 0, patterns: Patterns::default() }
    }

    /// What it has cost.
    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }

    /// Adds to the cost.
    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(self.over.clone()) } else { Ok(()) }
    }

    /// Adds elementary steps.
    pub(crate) fn work(&mut self, steps: u64) -> Result<(), EvalError> {
        self.work = self.work.saturating_add(steps);
        if self.work > MAX_WORK { Err(EvalError::CallLimit) } else { Ok(()) }
    }

    /// Adds the steps of going through so many bytes.
    pub(crate) fn bytes(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.work(1 + crate::value::size(bytes) / 16)
    }

    /// Adds the steps of making so many bytes of text.
    pub(crate) fn make(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.hold(bytes)?;
        self.bytes(bytes)
    }

    /// Adds the steps of making a list of so many items, or of adding so many to one.
    pub(crate) fn items(&mut self, count: usize) -> Result<(), EvalError> {
        self.hold(count.saturating_mul(size_of::<Value<'_>>()))?;
        self.work(crate::value::size(count))
    }

    /// Adds the steps of adding so many entries to a map.
    pub(crate) fn entries(&mut self, count: usize) -> Result<(), EvalError> {
        self.hold(count.saturating_mul(ENTRY))?;
        self.work(crate::value::size(count).saturating_mul(8))
    }

    fn hold(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.made = self.made.saturating_add(bytes);
        if self.made > MAX_MADE { Err(EvalError::CallLimit) } else { Ok(()) }
    }

    /// Makes a pattern known that was compiled with the program.
    pub(crate) fn prepare(&mut self, pattern: &Pattern) {
        self.patterns.known(pattern);
    }

    /// A compiled regular expression; each is compiled once.
    pub(crate) fn pattern(&mut self, text: &str) -> Result<Pattern, EvalError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known);
        }
        self.work(Pattern::compile_steps(text))?;
        let pattern = Pattern::new(text)?;
        self.patterns.put(pattern.clone());
        Ok(pattern)
    }
}
