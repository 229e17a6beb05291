//! fakes/engine
