//! Detection: from the text of rules to the expressions that events are held against.
//!
//! In goes the text of rule files, out come rules whose conditions are `matcher` expressions over field
//! names. What a field name means for a decoder, and which rules a source gets, is decided by the plan.

pub mod sigma;
