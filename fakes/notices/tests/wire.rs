//! The emulator as a client of a cloud sees it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharfage_fake_notices::{Cloud, Emulator, Script};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const SPOT: &str = "/latest/meta-data/spot/instance-action";
const PREEMPTED: &str = "/computeMetadata/v1/instance/preempted";
const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";

/// Whether an answer fails as it should.
type Holds = fn(&str) -> bool;

async fn emulator(clouds: &[Cloud], script: &str) -> Emulator {
    let script = Script::parse(script, "test", clouds).expect("a script");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Emulator::start(address, clouds, script, false).await.expect("a port")
}

/// Everything that comes back; what is cut short comes back as far as it came.
async fn raw(emulator: &Emulator, request: &str, headers: &str, body: &str) -> String {
    let address = emulator.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A reset is an end as well.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    drop(read.expect("an end in time"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and body.
async fn ask(emulator: &Emulator, request: &str, headers: &str) -> (u16, String) {
    let answer = raw(emulator, request, headers, "").await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (status.expect("a status"), body.to_owned())
}

async fn token(emulator: &Emulator) -> String {
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
    let (status, token) = ask(emulator, "PUT /latest/api/token", ttl).await;
    assert_eq!(status, 200);
    format!("X-aws-ec2-metadata-token: {token}\r\n")
}

#[tokio::test]
async fn aws_wants_a_token_and_knows_nothing_until_something_is_announced() {
    let aws = emulator(&[Cloud::Aws], "").await;
    assert_eq!(ask(&aws, &format!("GET {SPOT}"), "").await.0, 401);
    assert_eq!(ask(&aws, "PUT /latest/api/token", "").await.0, 400, "the life is missing");
    let shown = token(&aws).await;
    let spot = format!("GET {SPOT}");
    let (status, body) = ask(&aws, &spot, &shown).await;
    assert!(status == 404 && body.contains("404 - Not Found"), "{status} {body}");
    aws.tell("aws.spot stop in 120s").expect("understood");
    let (status, body) = ask(&aws, &spot, &shown).await;
    assert!(status == 200 && body.starts_with(r#"{"action": "stop", "time": "20"#), "{body}");
    assert_eq!(ask(&aws, &spot, &shown).await.1, body, "a time that is stated stays");
    aws.tell("expire token").expect("understood");
    assert_eq!(ask(&aws, &spot, &shown).await.0, 401);
    let shown = token(&aws).await;
    aws.tell("cancel aws.spot").expect("understood");
    assert_eq!(ask(&aws, &spot, &shown).await.0, 404);
    aws.tell("aws.maintenance system-reboot in 2h id E-7; aws.asg terminated").expect("understood");
    let (_, body) = ask(&aws, "GET /latest/meta-data/events/maintenance/scheduled", &shown).await;
    assert!(body.contains(r#""Code":"system-reboot""#) && body.contains("instance-E-7"), "{body}");
    let (_, state) =
        ask(&aws, "GET /latest/meta-data/autoscaling/target-lifecycle-state", &shown).await;
    assert_eq!(state, "Terminated");
}

#[tokio::test]
async fn a_value_of_gcp_is_waited_for_and_told_at_once() {
    let gcp = emulator(&[Cloud::Gcp], "").await;
    let flavour = "Metadata-Flavor: Google\r\n";
    assert_eq!(ask(&gcp, &format!("GET {PREEMPTED}"), "").await.0, 403);
    let first = raw(&gcp, &format!("GET {PREEMPTED}"), flavour, "").await;
    assert!(first.ends_with("FALSE") && first.contains("Metadata-Flavor: Google"), "{first}");
    let etag = first.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a mark");
    let waiting = format!("GET {PREEMPTED}?wait_for_change=true&last_etag={etag}&timeout_sec=");
    let long = format!("{waiting}3600");
    let (told, ()) = tokio::join!(ask(&gcp, &long, flavour), async {
        while gcp.asked().len() < 3 {
            tokio::task::yield_now().await;
        }
        gcp.tell("gcp.preempted").expect("understood");
    });
    assert_eq!(told, (200, "TRUE".to_owned()));
    assert_eq!(ask(&gcp, &long, flavour).await.1, "TRUE", "it is another value already");
    gcp.tell("cancel").expect("understood");
    assert_eq!(ask(&gcp, &format!("{waiting}0"), flavour).await.1, "FALSE", "not for ever");
}

#[tokio::test]
async fn an_event_of_azure_begins_when_it_is_approved() {
    let azure = emulator(&[Cloud::Azure], "azure.preempt in 30s id E-1 on me,vm-7").await;
    let metadata = "Metadata: true\r\n";
    let events = format!("GET {EVENTS}");
    assert_eq!(ask(&azure, &events, "").await.0, 400);
    let name = "GET /metadata/instance/compute/name?api-version=2021-02-01&format=text";
    assert_eq!(ask(&azure, name, metadata).await, (200, "vm-0".to_owned()));
    let (_, body) = ask(&azure, &events, metadata).await;
    assert!(body.contains(r#""Resources":["vm-0","vm-7"]"#), "{body}");
    assert!(body.contains("\"Scheduled\"") && body.contains(" GMT\""), "{body}");
    let post = format!("POST {EVENTS}");
    assert!(raw(&azure, &post, metadata, "nonsense").await.starts_with("HTTP/1.1 400"));
    let approval = r#"{"StartRequests":[{"EventId":"E-1"}]}"#;
    assert!(raw(&azure, &post, metadata, approval).await.starts_with("HTTP/1.1 200"));
    let (_, body) = ask(&azure, &events, metadata).await;
    assert!(body.contains("\"Started\"") && body.contains(r#""NotBefore":"""#), "{body}");
    assert!(azure.asked().contains(&format!("POST /metadata/scheduledevents {approval}")));
}

#[tokio::test]
async fn the_others_have_one_key_or_none() {
    let script = "alibaba.spot in 300s; tencent.spot in 120s";
    let clouds = [Cloud::Alibaba, Cloud::Tencent, Cloud::Oci, Cloud::Nebius];
    let all = emulator(&clouds, script).await;
    let key = "GET /latest/meta-data/instance/spot/termination-time";
    assert_eq!(ask(&all, key, "").await.0, 401);
    let ttl = "X-aliyun-ecs-metadata-token-ttl-seconds: 60\r\n";
    let (_, token) = ask(&all, "PUT /latest/api/token", ttl).await;
    let shown = format!("X-aliyun-ecs-metadata-token: {token}\r\n");
    let (_, at) = ask(&all, key, &shown).await;
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");
    let (_, at) = ask(&all, "GET /latest/meta-data/spot/termination-time", "").await;
    assert!(at.len() == 19 && !at.contains('T'), "no zone: {at}");
    let bearer = "Authorization: Bearer Oracle\r\n";
    assert_eq!(ask(&all, "GET /opc/v2/instance/", bearer).await.0, 200);
    assert_eq!(ask(&all, "GET /anything", "").await.0, 404);
}

#[tokio::test]
async fn every_way_to_fail_is_seen_on_the_wire_and_ends_with_heal() {
    let tencent = emulator(&[Cloud::Tencent], "").await;
    let key = "GET /latest/meta-data/spot/termination-time";
    let cases: [(&str, Holds); 8] = [
        ("inject 503", |answer| answer.starts_with("HTTP/1.1 503")),
        ("reset connections", str::is_empty),
        ("hang for 1ms", str::is_empty),
        ("slow 1ms", |answer| answer.ends_with("</html>\n")),
        ("truncate", |answer| answer.starts_with("HTTP/1.1 404") && !answer.contains("</html>")),
        ("html", |answer| answer.starts_with("HTTP/1.1 200") && answer.contains("<!doctype")),
        ("oversize", |answer| answer.len() > 10_000_000),
        ("redirect to http://127.0.0.1:1/x", |answer| {
            answer.contains("Location: http://127.0.0.1:1/x")
        }),
    ];
    for (fault, holds) in cases {
        tencent.tell(fault).expect("understood");
        let answer = raw(&tencent, key, "", "").await;
        assert!(holds(&answer), "{fault}: {}", answer.get(..200).unwrap_or(&answer));
    }
    tencent.tell("heal").expect("understood");
    assert_eq!(ask(&tencent, key, "").await.0, 404);
    tencent
        .tell("answer /latest/meta-data/spot/termination-time 200 \\u{feff}soon\\r\\n")
        .expect("understood");
    assert_eq!(ask(&tencent, key, "").await, (200, "\u{feff}soon\r\n".to_owned()));
}

#[tokio::test]
async fn a_script_is_told_at_its_moments_and_shifted_times_move_with_each_call() {
    let tencent = emulator(&[Cloud::Tencent], "at 20ms tencent.spot in -1h; shift times").await;
    let key = "GET /latest/meta-data/spot/termination-time";
    let hear = async || {
        let (status, at) = ask(&tencent, key, "").await;
        (status == 200).then_some(at)
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while heard.len() < 2 && tokio::time::Instant::now() < until {
        if let Some(at) = hear().await.filter(|at| !heard.contains(at)) {
            heard.push(at);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(heard.len() == 2 && heard[0] < heard[1], "{heard:?}");
}
