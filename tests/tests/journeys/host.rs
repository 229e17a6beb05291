//! A host as its operator lives with it: a machine with a systemd of its own, where everything is
//! installed from the packaged files. The agent is killed, upgraded, reloaded, stopped and started;
//! its replica does not notice. Then the machine is switched off, and does.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharfage_tests::machine::Machine;
use wharfage_tests::{SOON, program};

/// Everything that is installed beside the packaged files: shorter waits, fake GPUs, the
/// development engine, a hook that leaves a trace outside the machine.
const INSTALL: &str = r#"
at=/opt/wharfage
mkdir -p $at/bin /etc/systemd/logind.conf.d /etc/sysusers.d /etc/tmpfiles.d /var/lib/fake-gpus/claims
cp $at/build/wharfage-agent $at/bin/
ln -s $at/build/wharfage-scheduler $at/build/wharfage $at/bin/
for unit in wharfage-agent.service wharfage-scheduler.service 'wharfage-replica@.service' wharfage.slice
do sed "s|/usr/bin/wharfage|$at/bin/wharfage|" $at/systemd/$unit > /etc/systemd/system/$unit; done
cp $at/systemd/wharfage.sysusers.conf /etc/sysusers.d/wharfage.conf
cp $at/systemd/wharfage.tmpfiles.conf /etc/tmpfiles.d/wharfage.conf
systemd-sysusers; systemd-tmpfiles --create /etc/tmpfiles.d/wharfage.conf
chown wharfage-hook $at/proof
sed 's/=120/=15/' $at/systemd/wharfage-logind.conf > /etc/systemd/logind.conf.d/wharfage.conf
mkdir /etc/systemd/system/wharfage-agent.service.d
printf '[Service]\nReadWritePaths=%s\n' $at/proof > /etc/systemd/system/wharfage-agent.service.d/hooks.conf
systemctl daemon-reload
systemctl restart systemd-logind

sed -e 's/0.0.0.0:7071/127.0.0.1:7071/' -e 's/scheduler.internal/127.0.0.1/' \
    $at/systemd/scheduler.toml > /etc/wharfage/scheduler.toml
printf '#!/bin/sh\necho "$(id -un) $WHARFAGE_REPLICA $WHARFAGE_REASON" >> %s/proof/drained\n' $at > $at/bin/drain
chmod 755 $at/bin/drain
cat > /etc/wharfage/hooks.d/drain.toml <<END
command = ["$at/bin/drain"]
timeout_seconds = 10
END
cat > /etc/wharfage/engines.d/vllm.toml <<END
name = "vllm"
versions = ["1"]
command = ["$at/bin/wharfage", "engine-stub", "--port", "{port}", "--model-dir", "{model_dir}",
    "--served-model-name", "{model_name}", "--load-seconds", "0.1"]
END
chmod 1777 /var/lib/fake-gpus/claims
printf '{"gpus":[' > /var/lib/fake-gpus/gpus.json
for n in 0 1 2 3 4 5 6 7
do mkdir -m 1777 /var/lib/fake-gpus/claims/GPU-$n; printf '{"uuid":"GPU-%s"}' $n; test $n = 7 || printf ,
done >> /var/lib/fake-gpus/gpus.json
printf ']}' >> /var/lib/fake-gpus/gpus.json
sed -e 's/gpu-host-1.internal/127.0.0.1/' -e 's/^guard_listen_ip.*/guard_listen_ip = "127.0.0.1"/' \
    -e 's|^# library.*|library = "/opt/wharfage/build/libwharfage_fake_nvml.so"|' \
    -e 's/^exit_drain_seconds.*/exit_drain_seconds = 12/' -e 's/^# memory_max_mib.*/memory_max_mib = 4096/' \
    -e 's|^directory.*|directory = "/var/cache/wharfage-agent/bucket"\ngenerate_missing = true\ngenerate_mib = 1|' \
    -e 's/^.health.off.$/&\nG16 = "this disk is the test host'"'"'s"\nG17 = "this memory is the test host'"'"'s"/' \
    $at/systemd/agent.toml > /etc/wharfage/agent.toml
printf '[env]\nWHARFAGE_FAKE_GPUS = "/var/lib/fake-gpus"\n' >> /etc/wharfage/agent.toml
systemctl start wharfage-scheduler
"#;

struct Host {
    machine: Machine,
    token: String,
}

/// Waits until `seen` gives something; fails naming what was waited for and what the host says.
fn wait_for<T>(host: &Host, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        if Instant::now() > deadline {
            let journal = host.machine.sh("journalctl --no-pager -n 80; systemctl --failed");
            panic!("not seen in time: {what}\n{}", journal.unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Host {
    fn sh(&self, script: &str) -> String {
        self.machine.sh(script).expect("it works").trim().to_owned()
    }

    /// One call of the API from inside the machine.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let body = body.map(Value::to_string);
        let token = format!("Authorization: Bearer {}", self.token);
        let url = format!("http://127.0.0.1:7070{path}");
        let mut line = vec!["curl", "-s", "-m", "10", "-X", method, "-H", &token, &url];
        if let Some(body) = &body {
            line.extend(["-H", "Content-Type: application/json", "--data", body]);
        }
        let done = self.machine.run(&line).expect("curl runs");
        serde_json::from_slice(&done.stdout).ok()
    }

    fn made(&self, path: &str, body: &Value) -> Value {
        let made = self.call("POST", path, Some(body)).expect("an answer");
        assert!(made.get("status").is_none_or(|status| !status.is_u64()), "{path}: {made}");
        made
    }

    fn text(&self, path: &str, body: &Value, key: &str) -> String {
        let made = self.made(path, body);
        made.pointer(key).and_then(Value::as_str).expect("the text").to_owned()
    }

    fn status(&self) -> Option<Value> {
        let done = self.machine.run(&["curl", "-s", "-m", "5", "http://127.0.0.1:7090/status"]);
        serde_json::from_slice(&done.expect("curl runs").stdout).ok()
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value -p {name} '{unit}'"))
    }

    /// The unit of the only ready replica.
    fn ready(&self) -> String {
        wait_for(self, "a ready replica", || {
            let rows = self.call("GET", "/api/v1/replicas", None)?;
            let rows = rows["replicas"].as_array()?.clone();
            let row = rows.iter().find(|row| row["phase"] == "ready")?;
            Some(format!("wharfage-replica@{}.service", row["id"].as_str()?))
        })
    }

    /// The agent answers its page and the node is connected.
    fn connected(&self) {
        wait_for(self, "a connected agent", || {
            self.status()?;
            let node = self.call("GET", "/api/v1/nodes/gpu-host-1", None)?;
            (node["reach"] == "connected").then_some(())
        });
    }
}

/// Boots, installs, joins and deploys.
fn installed(proof: &Path) -> Host {
    let agent = program("wharfage-agent");
    let build = agent.parent().expect("a folder");
    for name in ["wharfage", "wharfage-scheduler", "libwharfage_fake_nvml.so"] {
        program(name);
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let shared = [
        (build, "/opt/wharfage/build"),
        (units.as_path(), "/opt/wharfage/systemd"),
        (proof, "/opt/wharfage/proof"),
    ];
    let machine = Machine::boot(&shared).expect("it boots");
    let mut host = Host { machine, token: String::new() };
    host.sh(INSTALL);
    host.token = wait_for(&host, "the first token", || {
        let token = host.machine.sh("cat /var/lib/wharfage-scheduler/admin.token").ok()?;
        host.call("GET", "/healthz", None);
        (!token.trim().is_empty()).then(|| token.trim().to_owned())
    });
    wait_for(&host, "the scheduler", || host.call("GET", "/api/v1/nodes", None));
    host.made("/api/v1/organizations", &json!({ "id": "acme", "currency": "USD" }));
    let pool = json!({ "id": "default", "zone": "US-EAST-04A", "sku": "gd-8xh100ib-i128" });
    host.made("/api/v1/nodepools", &pool);
    let join = json!({ "admits": "nodes", "pool": "default", "uses": 1 });
    let join = host.text("/api/v1/joins", &join, "/join");
    host.sh(&format!(
        "umask 077; echo '{join}' > /etc/wharfage/join; systemctl start wharfage-agent"
    ));
    host.connected();
    let gateway = json!({
        "name": "front", "organizationId": "acme", "zones": ["US-EAST-04A"],
        "coreWeaveAuth": {}, "bodyBasedRouting": { "apiType": "API_TYPE_OPENAI" },
    });
    let gateway = host.text("/v1alpha1/inference/gateways", &gateway, "/gateway/spec/id");
    let token = json!({ "organization": "acme", "name": "t",
        "roles": ["viewer", "operator", "billing", "admin"] });
    let provider = std::mem::take(&mut host.token);
    host.token.clone_from(&provider);
    let tenant = host.text("/api/v1/tokens", &token, "/token");
    host.token = tenant;
    let deployment = json!({
        "name": "chat", "gatewayIds": [gateway], "runtime": { "engine": "vllm" },
        "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": 1 },
        "model": { "name": "chat-model", "bucket": "models", "path": "chat" },
        "autoscaling": { "min": 1, "max": 1, "capacityClasses": ["CAPACITY_CLASS_ON_DEMAND"] },
        "traffic": { "weight": 100 }, "wharfage": { "hooks": { "drain": "drain" } },
    });
    host.made("/v1alpha1/inference/deployments", &deployment);
    host.token = provider;
    host
}

#[test]
fn a_replica_does_not_notice_what_happens_to_its_agent_and_drains_before_its_machine_goes() {
    if let Some(why) = Machine::impossible() {
        println!("SKIPPED: nothing was seen on a host with systemd: {why}");
        return;
    }
    let proof = std::env::temp_dir().join(format!("wharfage-proof-{}", std::process::id()));
    std::fs::create_dir_all(&proof).expect("a folder");
    let mut host = installed(&proof);
    let unit = host.ready();
    let pid = host.property(&unit, "MainPID");
    assert_eq!(host.status().expect("a page")["driver"], "systemd");
    assert_eq!(host.property(&unit, "Slice"), "wharfage.slice");
    assert_eq!(host.property(&unit, "MemoryMax"), (4096_u64 << 20).to_string());
    let user = host.sh(&format!("ps -o user:32= -p $(pgrep -P {pid})"));
    assert_eq!(user, "wharfage-engine", "the guard drops its privileges for the engine");
    assert!(host.sh(&format!("journalctl --no-pager -u '{unit}'")).contains("loading"));

    let agent = host.property("wharfage-agent", "MainPID");
    host.sh("systemctl kill -s KILL --kill-whom=main wharfage-agent");
    wait_for(&host, "another agent", || {
        let next = host.property("wharfage-agent", "MainPID");
        (next != agent && next != "0").then_some(())
    });
    adopted(&host, &unit, &pid);

    host.sh("cd /opt/wharfage/bin; cp wharfage-agent next; mv next wharfage-agent; \
         systemctl restart wharfage-agent");
    adopted(&host, &unit, &pid);
    let runs = host.sh("readlink /proc/$(systemctl show --value -p MainPID wharfage-agent)/exe");
    assert_eq!(runs, "/opt/wharfage/bin/wharfage-agent", "the new file, not a deleted one");

    frozen(&host, &unit, &pid);
    reloads(&host);
    host.sh("systemctl stop wharfage-agent");
    assert_eq!(host.property(&unit, "ActiveState"), "active", "stopping an agent stops no replica");
    host.sh("systemctl start wharfage-agent");
    adopted(&host, &unit, &pid);

    host.sh("sed -i 's/^on_exit.*/on_exit = \"drain\"/' /etc/wharfage/agent.toml; \
             systemctl reload wharfage-agent");
    wait_for(&host, "the new settings", || {
        host.status()?["notes"].to_string().contains("read again and counts").then_some(())
    });
    host.sh("systemctl stop wharfage-agent");
    assert_eq!(host.property(&unit, "MainPID"), "0", "told to drain, it takes its replica along");
    let drained = || std::fs::read_to_string(proof.join("drained")).unwrap_or_default();
    assert_eq!(drained().lines().count(), 1, "{}", drained());
    assert!(drained().starts_with("wharfage-hook "), "hooks run as their own user: {}", drained());

    host.sh("sed -i 's/^on_exit.*/on_exit = \"leave\"/' /etc/wharfage/agent.toml; \
             systemctl start wharfage-agent");
    let second = host.ready();
    assert_ne!(second, unit, "a replica's number is used once");
    host.connected();
    wait_for(&host, "an inhibitor", || (host.status()?["shutdown_delay"] == 15_000).then_some(()));
    host.sh("systemctl poweroff");
    wait_for(&host, "the notice of the shutdown", || {
        host.status()?["notices"].to_string().contains("logind").then_some(())
    });
    host.machine.wait_until_off().expect("it powers off");
    assert_eq!(drained().lines().count(), 2, "the second one drained too: {}", drained());
    drop(std::fs::remove_dir_all(&proof));
}

/// An agent that does not get on is ended by its watchdog, and the next one has everything.
fn frozen(host: &Host, unit: &str, pid: &str) {
    host.sh("mkdir /run/systemd/system/wharfage-agent.service.d; \
             printf '[Service]\\nWatchdogSec=4\\nTimeoutAbortSec=1\\n' \
             > /run/systemd/system/wharfage-agent.service.d/quick.conf; \
             systemctl daemon-reload; systemctl restart wharfage-agent");
    adopted(host, unit, pid);
    let agent = host.property("wharfage-agent", "MainPID");
    host.sh("systemctl kill -s STOP --kill-whom=main wharfage-agent");
    wait_for(host, "another agent in place of the frozen one", || {
        let next = host.property("wharfage-agent", "MainPID");
        (next != agent && next != "0").then_some(())
    });
    adopted(host, unit, pid);
    let journal = host.sh("journalctl --no-pager -u wharfage-agent");
    assert!(journal.contains("Watchdog timeout (limit 4s)!"), "{journal}");
    host.sh("rm -r /run/systemd/system/wharfage-agent.service.d; systemctl daemon-reload; \
             systemctl restart wharfage-agent");
    adopted(host, unit, pid);
}

/// The same process as before, ready, and known to the agent.
fn adopted(host: &Host, unit: &str, pid: &str) {
    host.connected();
    wait_for(host, "the adopted replica", || {
        host.status()?["notes"].to_string().contains("adopted from an earlier agent").then_some(())
    });
    assert_eq!(host.ready(), unit);
    assert_eq!(host.property(unit, "MainPID"), pid, "not started again");
}

/// A bad file changes nothing and is said; a good one ends the alarm.
fn reloads(host: &Host) {
    let alarm = |host: &Host| Some(host.status()?["alarms"].to_string());
    host.sh("cp /etc/wharfage/agent.toml /etc/wharfage/good; \
             echo 'colour = 1' >> /etc/wharfage/agent.toml; systemctl reload wharfage-agent");
    wait_for(host, "the refusal", || {
        let said = alarm(host)?;
        (said.contains("the old one counts") && said.contains("colour")).then_some(())
    });
    host.sh("mv /etc/wharfage/good /etc/wharfage/agent.toml; systemctl reload wharfage-agent");
    wait_for(host, "the end of the alarm", || {
        (!alarm(host)?.contains("the old one counts")).then_some(())
    });
}
