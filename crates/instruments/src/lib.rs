//! What a part counts of its own work, and Prometheus' text of it.
//!
//! Owns: counters, gauges and histograms that are atomic numbers ([`Counter`], [`Gauge`], [`Histogram`]), families of these
//! by label ([`Family`]), the page that they are written on ([`Page`]), and what the kernel counts of this process
//! ([`process`]). Never does: hold a name (whoever writes a page names what is on it), lock or allocate where something is
//! counted that has been counted before, or keep a global list: instruments are fields of what they measure.
//!
//! Begin with [`Page`].

mod family;
mod number;
mod page;
mod process;

pub use family::Family;
pub use number::{Counter, Gauge, Histogram, OF_REQUESTS};
pub use page::{Kind, Page, TEXT};
pub use process::process;
