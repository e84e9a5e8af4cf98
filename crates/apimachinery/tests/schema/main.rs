//! The life of objects under their schemas: built-in kinds from a table, custom kinds from a CRD.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod builtin;
mod custom;
mod structural;
