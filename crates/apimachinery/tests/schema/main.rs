//! The life of objects under their schemas: built-in kinds from a table, custom kinds from a CRD.

mod builtin;
mod custom;
mod structural;
