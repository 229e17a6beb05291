//! One metadata service while it is listened to: a task for each question, the token that they
//! share, and what the node's decisions hear of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::time::Millis;

use super::client::{Answer, Client, TOTAL};
use super::source::{Heard, Pace, Question, Request, Source};
use super::told::{self, Told, word};
use crate::notices::hearing::Hearing;
use crate::notices::settings::Notices;
use crate::notices::{Alarm, Matter};

/// After an error a slow question is asked again so soon.
const RETRY: Duration = Duration::from_secs(5);

/// After an error a held question is asked again after the first, then longer, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// A service that is asked to hold and does not is not asked more often.
const HELD_LEAST: Duration = Duration::from_millis(250);

/// Nobody who looks once waits longer.
const PROOF: Duration = Duration::from_secs(10);

/// Tries to say that the node is done with an event.
const APPROVALS: u32 = 5;

/// A token is short text.
const LARGEST_TOKEN: usize = 4096;

/// What every question needs.
pub struct Service {
    source: Box<dyn Source>,
    client: Client,
    settings: Notices,
    token: Mutex<Option<(String, Instant)>>,
    own_name: OnceCell<String>,
    ears: Ears,
}

/// What a service is connected to.
#[derive(Clone)]
pub struct Ears {
    /// Where notices go.
    pub inputs: mpsc::Sender<Input>,
    /// Where it is said what is wrong.
    pub alarms: mpsc::Sender<Alarm>,
    /// Who was heard when.
    pub hearing: Arc<Hearing>,
    /// Notices that the node is done with.
    pub done: broadcast::Sender<NoticeId>,
}

impl Service {
    /// Listens to this source; nothing is asked yet.
    pub fn new(source: Box<dyn Source>, settings: Notices, ears: Ears) -> Self {
        let (ip, host) = source.address();
        let client = match settings.metadata_address() {
            Some(address) => Client::new(address, &address.to_string()),
            None => Client::new((ip, 80).into(), host),
        };
        let (token, own_name) = (Mutex::default(), OnceCell::new());
        Self { source, client, settings, token, own_name, ears }
    }

    /// What it is asked.
    pub fn questions(&self) -> Vec<Question> {
        self.source.questions(&self.settings)
    }

    /// Asks once what is vital: how many events each answer names, or why it is not heard.
    pub async fn prove(&self) -> Vec<(&'static str, Result<usize, String>)> {
        let mut proven = Vec::new();
        for question in self.questions().into_iter().filter(|question| question.is_vital) {
            let within = self.within(&question, false).min(PROOF);
            let answer = self.ask(&question.request, within).await;
            let events = answer.and_then(|answer| self.read(&question, answer));
            proven.push((question.name, events.map(|(_, events)| events.len())));
        }
        proven
    }

    /// Asks everything until `stop`.
    pub async fn listen(self, stop: CancellationToken) {
        let service = Arc::new(self);
        let mut asking = tokio::task::JoinSet::new();
        for question in service.questions() {
            let first = question.first_within.map(|first| Millis(first.as_millis() as u64));
            let key = (service.source.name(), question.name);
            service.ears.hearing.begin(key, question.is_vital, first, clock::boottime());
            asking.spawn(Arc::clone(&service).follow(question));
        }
        stop.cancelled().await;
    }

    /// Asks one question again and again.
    async fn follow(self: Arc<Self>, question: Question) {
        let mut told = Told::new(self.source.name());
        let mut done = self.ears.done.subscribe();
        let mut mark: Option<String> = None;
        let mut failures: u32 = 0;
        let mut was_heard = false;
        loop {
            let begun = Instant::now();
            let within = self.within(&question, was_heard);
            let asked = with_mark(&question, mark.as_deref());
            let heard = self.ask(&asked, within).await;
            let is_well = match heard.and_then(|answer| self.read(&question, answer)) {
                Ok((answer, events)) => {
                    was_heard = true;
                    mark = answer.header("etag").map(str::to_owned);
                    if !self.tell(&question, &mut told, &answer, &events).await {
                        return;
                    }
                    true
                }
                Err(why) => {
                    // What was waited for may have happened meanwhile: the next answer comes at once.
                    mark = None;
                    self.trouble(&question, why);
                    false
                }
            };
            failures = if is_well { 0 } else { failures.saturating_add(1) };
            let next = begun + pause(question.pace, failures);
            while let Some(id) = done_until(&mut done, next).await {
                if let Some(request) = told.key_of(&id).and_then(|key| self.source.approval(key)) {
                    self.approve(&request, &id).await;
                }
            }
        }
    }

    /// The events of an answer, with the answer.
    fn read(
        &self,
        question: &Question,
        answer: Answer,
    ) -> Result<(Answer, Vec<super::source::Event>), String> {
        let own_name = self.own_name.get().map_or("", String::as_str);
        let heard =
            Heard { question: question.name, answer: &answer, own_name, settings: &self.settings };
        let events = self.source.read(heard)?;
        Ok((answer, events))
    }

    /// Hands on what is new; false when nobody listens any more.
    async fn tell(
        &self,
        question: &Question,
        told: &mut Told,
        answer: &Answer,
        events: &[super::source::Event],
    ) -> bool {
        let at = told::Instant { now: answer.at, there: answer.service_time() };
        let news = told.hear(events, at);
        for input in news.inputs {
            if self.ears.inputs.send(input).await.is_err() {
                return false;
            }
        }
        let key = (self.source.name(), question.name);
        if self.ears.hearing.heard(key, answer.at) {
            tracing::info!(
                notices.source = word(key.0),
                notices.question = key.1,
                notices.address = %self.client.address(),
                "the metadata service is heard"
            );
        }
        if question.is_vital {
            self.alarm(Matter::Clock, answer.clock_ahead_ms().map(clock_sentence)).await;
        }
        for odd in news.odd {
            self.alarm(Matter::Words, Some(format!("{}: {odd}", word(key.0)))).await;
        }
        if events.is_empty() && question.is_vital {
            self.alarm(Matter::Words, None).await;
        }
        true
    }

    fn trouble(&self, question: &Question, why: String) {
        let key = (self.source.name(), question.name);
        tracing::debug!(notices.source = word(key.0), notices.question = key.1, "{why}");
        self.ears.hearing.trouble(key, why);
    }

    async fn alarm(&self, matter: Matter, text: Option<String>) {
        let alarm = Alarm { source: self.source.name(), matter, text };
        // Nobody listens only while the agent ends.
        drop(self.ears.alarms.send(alarm).await);
    }

    fn within(&self, question: &Question, was_heard: bool) -> Duration {
        match (question.pace, question.first_within) {
            (_, Some(first)) if !was_heard => first,
            (Pace::Every(_), _) => TOTAL,
            (Pace::Held(held), _) => held + TOTAL,
        }
    }

    /// Asks with the token and after this machine's own name is known.
    async fn ask(&self, request: &Request, within: Duration) -> Result<Answer, String> {
        if let Some(named) = self.source.own_name() {
            self.own_name.get_or_try_init(|| self.hear_name(named)).await?;
        }
        let Some(token) = self.source.token() else {
            return self.client.ask(request, within).await;
        };
        let mut refused: Option<String> = None;
        loop {
            let shown = self.token(&token, refused.as_deref()).await?;
            let mut request = request.clone();
            request.headers.push((token.header, shown.clone()));
            let answer = self.client.ask(&request, within).await?;
            match (answer.status, refused) {
                (401, None) => refused = Some(shown),
                (401, Some(_)) => return Err("a new token is refused (401)".to_owned()),
                _ => return Ok(answer),
            }
        }
    }

    /// The token that all questions share, had anew when it is old or was refused.
    async fn token(
        &self,
        token: &super::source::Token,
        refused: Option<&str>,
    ) -> Result<String, String> {
        let mut kept = self.token.lock().await;
        let is_good = |(text, since): &&(String, Instant)| {
            since.elapsed() < token.renew_after && refused != Some(text)
        };
        if let Some((text, _)) = kept.as_ref().filter(is_good) {
            return Ok(text.clone());
        }
        let answer = self.client.ask(&token.request, TOTAL).await;
        let text = answer.and_then(|answer| {
            let is_token = |c: char| c.is_ascii_graphic() && c != '<';
            let fits = (1..=LARGEST_TOKEN).contains(&answer.text.len());
            match answer.status == 200 && fits && answer.text.chars().all(is_token) {
                true => Ok(answer.text),
                false => {
                    Err(format!("no token: the answer {} `{}`", answer.status, answer.words()))
                }
            }
        });
        match (text, kept.as_ref().filter(|(text, _)| refused != Some(text))) {
            (Ok(text), _) => {
                *kept = Some((text.clone(), Instant::now()));
                Ok(text)
            }
            // The old one may be good for hours yet.
            (Err(_), Some((text, _))) => Ok(text.clone()),
            (Err(why), None) => Err(why),
        }
    }

    async fn hear_name(&self, request: Request) -> Result<String, String> {
        let answer = self.client.ask(&request, TOTAL).await?;
        let is_name = |c: char| !c.is_control() && c != '<' && c != '{';
        let fits = (1..=256).contains(&answer.text.len()) && answer.text.chars().all(is_name);
        match answer.status == 200 && fits {
            true => Ok(answer.text),
            false => Err(format!(
                "this machine's own name is not told: the answer {} `{}`",
                answer.status,
                answer.words()
            )),
        }
    }

    /// Says that the node is done with an event, so that what comes may come.
    async fn approve(&self, request: &Request, id: &NoticeId) {
        let mut said = String::new();
        for _ in 0..APPROVALS {
            match self.ask(request, TOTAL).await {
                Ok(answer) if answer.status == 200 => {
                    tracing::info!(notice.id = %id, "the node is done with it: approved");
                    return;
                }
                Ok(answer) => said = format!("the answer {}", answer.status),
                Err(why) => said = why,
            }
            tokio::time::sleep(BACKOFF.0).await;
        }
        tracing::warn!(notice.id = %id, "it could not be approved: {said}");
    }
}

/// When the question is asked again, counted from when it was asked.
fn pause(pace: Pace, failures: u32) -> Duration {
    let backoff = || {
        let doubled = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(8));
        doubled.min(BACKOFF.1)
    };
    match (pace, failures) {
        (Pace::Every(every), 0) => every,
        (Pace::Every(every), _) => every.min(RETRY),
        (Pace::Held(_), 0) => HELD_LEAST,
        (Pace::Held(_), _) => backoff(),
    }
}

/// The question with the mark of what is known, so that only what is new answers it.
fn with_mark(question: &Question, mark: Option<&str>) -> Request {
    let mut request = question.request.clone();
    if let (Pace::Held(held), Some(mark)) = (question.pace, mark) {
        // The mark is the service's own text: only what can stand in a query goes back.
        let mark: String =
            mark.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let joint = if request.path.contains('?') { '&' } else { '?' };
        let seconds = held.as_secs();
        request.path.push_str(&format!(
            "{joint}wait_for_change=true&last_etag={mark}&timeout_sec={seconds}"
        ));
    }
    request
}

/// The next notice that the node is done with, before the question is asked again.
async fn done_until(done: &mut broadcast::Receiver<NoticeId>, until: Instant) -> Option<NoticeId> {
    loop {
        match tokio::time::timeout_at(until, done.recv()).await {
            Ok(Ok(id)) => return Some(id),
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                tokio::time::sleep_until(until).await;
                return None;
            }
            Err(_) => return None,
        }
    }
}

fn clock_sentence(ahead_ms: i64) -> String {
    let (seconds, word) =
        (ahead_ms.unsigned_abs() / 1000, if ahead_ms > 0 { "ahead of" } else { "behind" });
    format!(
        "this host's clock is {seconds} s {word} the metadata service's: deadlines are taken by the \
         service's clock"
    )
}
