//! A stand-in for `libcuda.so.1`: memory that a process takes through it is a claim in the fake GPU
//! folder, where the stand-in for NVML sees it.
//!
//! The rule it guards: whatever the folder holds, a call answers with a `CUresult`; it never panics
//! over the C boundary.

mod abi;
mod calls;
mod checkpoint;
mod process;
