//! shared/link
