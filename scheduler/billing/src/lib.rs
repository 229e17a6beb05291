//! scheduler/billing
