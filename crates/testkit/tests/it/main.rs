//! End to end on a real control plane. See `testkit` for what is real and what stands in.
//!
//! Every test starts a bed of its own; run with `--test-threads 4` at most on a small machine.

mod bad_days;
mod bad_input;
mod bed;
mod conformance;
mod crash;
mod credentials;
mod door;
mod double;
mod from_keda;
mod guards;
mod keda_conformance;
mod kwok;
mod nominate;
mod pod_side;
mod same_name;
mod scaled_jobs;
mod walkthrough;
mod watched;
mod world;
