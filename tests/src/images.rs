//! Images for tests, in every form that evenkeel takes.
