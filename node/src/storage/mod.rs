//! The only place that names redb.
