//! Lists that are sets or maps: no item twice.
