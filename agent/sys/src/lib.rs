//! agent/sys
