//! fakes/nvml
