//! A replica that takes device memory, from its start to the proof that all came back; and a
//! process that keeps the memory.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use wharfage_agent_sys::process;
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::replica::{Gone, ReportedPhase};

use crate::figures::{Figures, milliseconds, process_cpu, process_pss};
use crate::hold::Holder;
use crate::host::{Host, run, stop};
use crate::scheduler::{SECRET, Scheduler};
use crate::{Arguments, Seen};

const MIB: u64 = 1024 * 1024;

/// Plays both on one GPU.
pub fn check(
    arguments: &Arguments,
    gpu: &GpuUuid,
    seen: &mut Seen,
    figures: &mut Figures,
) -> Result<(), String> {
    println!("a replica on {gpu}");
    let mut host = Host::new()?;
    let scheduler = Scheduler::start(&host.root().join("scheduler"));
    host.start(&scheduler.join(SECRET), arguments)?;
    let idle = host.until("the agent reads the GPU", || {
        host.slot(gpu).filter(|slot| slot["memory_used_mib"].is_u64())
    })?;
    let mut stage = Stage { host, scheduler, arguments, gpu, seen, figures };
    stage.killed(idle.0["memory_used_mib"].as_u64().unwrap_or(0))?;
    stage.wedged()
}

struct Stage<'a> {
    host: Host,
    scheduler: Scheduler,
    arguments: &'a Arguments,
    gpu: &'a GpuUuid,
    seen: &'a mut Seen,
    figures: &'a mut Figures,
}

impl Stage<'_> {
    /// A replica serves and is killed.
    fn killed(&mut self, idle_mib: u64) -> Result<(), String> {
        let took = self.serve(1)?;
        let taken = u64::from(self.arguments.take_mib);
        let (slot, _) = self.host.until("a reading with the replica's memory", || {
            let slot = self.host.slot(self.gpu)?;
            (slot["memory_used_mib"].as_u64()? >= idle_mib + taken).then_some(slot)
        })?;
        let used = slot["memory_used_mib"].as_u64().unwrap_or(0);
        self.figures.add(format!(
            "a replica that takes {taken} MiB: ready after {} ms; the GPU shows {used} MiB in use \
             and showed {idle_mib} before",
            milliseconds(took)
        ));
        self.attributed(&slot["held"], 1, taken)?;
        self.overhead();
        let engine = self.host.engine(1)?;
        process::signal(engine, Signal::KILL).map_err(|error| format!("SIGKILL: {error}"))?;
        let (gone, took) = self.gone(1)?;
        let proof = gone.memory.first();
        self.seen.check(
            proof.is_some_and(|proof| proof.gpu == *self.gpu),
            &format!("release is proven by the GPU's memory after SIGKILL: {:?}", gone.memory),
        );
        self.figures
            .add(format!("SIGKILL of the engine -> proof of release: {} ms", milliseconds(took)));
        Ok(())
    }

    /// Orders a replica and waits until it serves.
    fn serve(&self, number: u32) -> Result<Duration, String> {
        self.scheduler.order(vec![run(number, self.gpu)]);
        let ready = || {
            let report = self.scheduler.replica()?;
            (report.replica.0 == number && report.phase == ReportedPhase::Ready).then_some(())
        };
        Ok(self.host.until("a ready replica", ready)?.1)
    }

    /// Whose the memory is.
    fn attributed(&mut self, held: &Value, number: u32, taken: u64) -> Result<(), String> {
        let engine = self.host.engine(number)?.pid;
        let own = &held["replicas"][format!("r-{number}")];
        let others = held["others"].as_array().cloned().unwrap_or_default();
        let unknown = others.iter().any(|other| other["name"].is_null());
        let what = format!("the memory is replica {number}'s (pid {engine}): {held}");
        match own.as_u64() {
            Some(bytes) => self.seen.check(bytes >= taken * MIB, &what),
            // Pids of another namespace mean nothing here; the agent says so by naming nobody.
            None if unknown => self.seen.skip(
                "attribution by process: NVML names processes of another PID namespace (run this \
                 outside the container)",
            ),
            None => self.seen.check(false, &what),
        }
        Ok(())
    }

    /// What the agent and its helper cost while a replica serves.
    fn overhead(&mut self) {
        let pids = self.host.processes();
        let before: Vec<Duration> = pids.iter().map(|pid| process_cpu(*pid)).collect();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(u64::from(self.arguments.measure_seconds)));
        let took = began.elapsed().as_secs_f64();
        for ((pid, before), name) in pids.iter().zip(before).zip(["agent", "NVML helper"]) {
            let spent = process_cpu(*pid).saturating_sub(before).as_secs_f64();
            self.figures.add(format!(
                "{name}: {:.3} % of a core, PSS {:.1} MiB, over {} s with one replica",
                spent * 100.0 / took,
                process_pss(*pid) as f64 / 1024.0,
                self.arguments.measure_seconds
            ));
        }
        self.seen.check(pids.len() == 2, "the agent has one helper");
    }

    fn gone(&self, number: u32) -> Result<(Gone, Duration), String> {
        self.host.until("the proof of release", || {
            self.scheduler.gone().filter(|gone| gone.replica.0 == number)
        })
    }

    /// A replica ends while another process keeps memory of its GPU.
    fn wedged(&mut self) -> Result<(), String> {
        self.scheduler.order(Vec::new());
        self.serve(2)?;
        let held_mib = self.arguments.take_mib / 2;
        let holder = Holder::start(&self.gpu.text(), &self.arguments.cuda, held_mib)?;
        self.host.until("a reading with the holder", || {
            let slot = self.host.slot(self.gpu)?;
            let others = slot["held"]["others"].as_array()?.len();
            (others > 0).then_some(())
        })?;
        self.scheduler.order(vec![stop(2)]);
        let (because, took) = self.host.until("the quarantine", || {
            let report = self.scheduler.replica()?;
            let is_held = report.phase == ReportedPhase::Quarantined;
            report.because.filter(|_| is_held)
        })?;
        let names_pid = because.contains(&format!("process {} (", holder.pid()));
        let names_somebody = because.contains("is held: process ");
        if names_somebody && !names_pid && process_is_foreign(&because) {
            self.seen
                .skip(&format!("the holder's pid: NVML names one of another namespace: {because}"));
        } else {
            let what = format!("the quarantine names the holder (pid {}): {because}", holder.pid());
            self.seen.check(names_pid, &what);
        }
        self.figures.add(format!(
            "stop with a wedged holder -> quarantine that names it: {} ms",
            milliseconds(took)
        ));
        self.seen.check(
            self.scheduler.gone().is_none_or(|gone| gone.replica.0 != 2),
            "a held slot is not said to be free",
        );
        drop(holder);
        let (_, took) = self.gone(2)?;
        self.seen.check(true, "the slot is free by itself once the holder has ended");
        self.figures
            .add(format!("end of the holder -> proof of release: {} ms", milliseconds(took)));
        Ok(())
    }
}

/// Whether the pid that a sentence names is nobody's here.
fn process_is_foreign(because: &str) -> bool {
    let named = because.split("process ").nth(1).and_then(|rest| rest.split(' ').next());
    named.and_then(|pid| pid.parse().ok()).is_some_and(|pid| process::find(pid).is_none())
}
