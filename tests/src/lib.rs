//! What the journeys share: a whole installation of real processes that a test starts and ends.
