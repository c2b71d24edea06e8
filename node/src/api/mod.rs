//! REST for clients and operators.
