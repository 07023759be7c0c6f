//! Connections of a server that counts them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;

use super::*;
use crate::context::{Authentication, Identity};
use crate::http::{HTTP_TIMEOUT, Http};

/// What a server saw.
#[derive(Default)]
struct Counts {
    dialled: AtomicUsize,
    cleaned: AtomicUsize,
    hung_up: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// What becomes of a question.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    /// Nothing, ever.
    Hangs,
    /// The connection breaks.
    Breaks,
}

/// `PASSED_ON` as in [`Dial`].
struct Server<const PASSED_ON: bool> {
    counts: Arc<Counts>,
    /// How often a connection answers before it breaks.
    good: usize,
    asked: Manner,
    /// Cleaning and ending a connection.
    tidied: Manner,
}

struct Line {
    left: usize,
    counts: Arc<Counts>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<const PASSED_ON: bool> Server<PASSED_ON> {
    fn new() -> Self {
        Self { counts: Arc::default(), good: usize::MAX, asked: Manner::Answers, tidied: Manner::Answers }
    }

    fn with(&self, asked: Manner, tidied: Manner) -> Self {
        Self { counts: Arc::clone(&self.counts), good: self.good, asked, tidied }
    }

    /// Connections that were made, that were cleaned, that were ended politely, and that are open.
    fn saw(&self) -> [usize; 4] {
        let Counts { dialled, cleaned, hung_up, open, .. } = &*self.counts;
        [dialled, cleaned, hung_up, open].map(|count| count.load(Ordering::SeqCst))
    }
}

async fn manner(manner: Manner) -> Result<(), ScalerError> {
    // Lets others in between.
    tokio::task::yield_now().await;
    match manner {
        Manner::Answers => Ok(()),
        Manner::Hangs => std::future::pending().await,
        Manner::Breaks => Err(ScalerError::Unavailable("broken".into())),
    }
}

#[async_trait]
impl<const PASSED_ON: bool> Dial for Server<PASSED_ON> {
    type Line = Line;
    const PASSED_ON: bool = PASSED_ON;

    async fn dial(&self) -> Result<Line, ScalerError> {
        let counts = Arc::clone(&self.counts);
        counts.dialled.fetch_add(1, Ordering::SeqCst);
        counts.most_open.fetch_max(counts.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Ok(Line { left: self.good, counts })
    }

    async fn ask(&self, line: &mut Line) -> Result<Reading, ScalerError> {
        manner(self.asked).await?;
        line.left = line.left.checked_sub(1).ok_or_else(|| ScalerError::Unavailable("worn out".into()))?;
        Reading::count(1)
    }

    async fn clean(&self, _: &mut Line) -> Result<(), ScalerError> {
        self.counts.cleaned.fetch_add(1, Ordering::SeqCst);
        manner(self.tidied).await
    }

    async fn hang_up(&self, _line: Line) {
        self.counts.hung_up.fetch_add(1, Ordering::SeqCst);
        let _ = manner(self.tidied).await;
    }
}

fn http() -> Arc<Http> {
    Arc::new(Http::new(HTTP_TIMEOUT))
}

/// A trigger that logs in like this.
fn trigger(http: &Arc<Http>, login: &str) -> Kept<Line> {
    let metadata = BTreeMap::new();
    Kept::new(&TriggerContext::new(0, &metadata, http), &login, HTTP_TIMEOUT)
}

fn triggers(http: &Arc<Http>, count: usize) -> Vec<Kept<Line>> {
    (0..count).map(|_| trigger(http, "login")).collect()
}

async fn check_wear(good: usize, reads: usize, dialled: usize) {
    let (kept, server) = (trigger(&http(), "login"), Server::<true> { good, ..Server::new() });
    for _ in 0..reads {
        assert_eq!(kept.read(&server).await.is_ok(), good > 0);
    }
    assert_eq!(server.saw()[0], dialled, "{good} {reads}");
}

#[tokio::test]
async fn a_connection_is_kept_until_it_breaks_and_then_made_again() {
    check_wear(10, 5, 1).await;
    check_wear(2, 5, 3).await;
    check_wear(0, 2, 2).await;
}

#[tokio::test]
async fn triggers_with_the_same_login_share_a_connection_that_is_cleaned_between_them() {
    let (http, server) = (http(), Server::<true>::new());
    let [a, b, other] = ["login", "login", "other"].map(|login| trigger(&http, login));
    for (kept, saw) in [(&a, [1, 0, 0, 1]), (&a, [1, 0, 0, 1]), (&b, [1, 1, 0, 1]), (&other, [2, 1, 0, 2])] {
        assert!(kept.read(&server).await.is_ok());
        assert_eq!(server.saw(), saw);
    }
}

#[tokio::test]
async fn another_identity_is_another_login() {
    let (http, server, metadata) = (http(), Server::<true>::new(), BTreeMap::new());
    let mut all = Vec::new();
    let role = |role: &str| Identity::Aws { role: Some(role.into()), external_id: None };
    for (identity, dialled) in [(Identity::Gcp, 1), (role("a"), 2), (role("b"), 3)] {
        let authentication = Authentication::Resolved { parameters: &metadata, identity: &identity };
        let context = TriggerContext { authentication, ..TriggerContext::new(0, &metadata, &http) };
        all.push(Kept::new(&context, &"login", HTTP_TIMEOUT));
        for kept in &all {
            assert!(kept.read(&server).await.is_ok());
        }
        assert_eq!(server.saw()[0], dialled, "{identity:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_cleaned_is_not_used_again() {
    for tidied in [Manner::Breaks, Manner::Hangs] {
        let http = http();
        let [a, b] = ["login"; 2].map(|login| trigger(&http, login));
        let server = Server::<true>::new().with(Manner::Answers, tidied);
        assert!(a.read(&server).await.is_ok());
        let read = timeout(HTTP_TIMEOUT, b.read(&server)).await;
        assert!(read.is_ok_and(|answer| answer.is_ok()), "there is time for another one");
        assert_eq!(server.saw(), [2, 1, 0, 1]);
    }
}

#[tokio::test]
async fn what_cannot_be_cleaned_is_used_by_the_trigger_alone_that_made_it() {
    let (http, server) = (http(), Server::<false>::new());
    let mut all = triggers(&http, IDLE + 3);
    for kept in all.iter().chain(&all) {
        assert!(kept.read(&server).await.is_ok());
    }
    // The first ones keep theirs, the last three connect twice.
    assert_eq!(server.saw(), [IDLE + 6, 0, 6, IDLE]);
    // Who goes leaves its place to another.
    all.remove(0);
    assert_eq!(server.saw()[3], IDLE - 1);
    let last = all.last().unwrap();
    for _ in 0..2 {
        assert!(last.read(&server).await.is_ok());
    }
    assert_eq!(server.saw(), [IDLE + 7, 0, 6, IDLE]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_the_end_of_a_connection() {
    let (http, server) = (http(), Server::<true>::new().with(Manner::Answers, Manner::Hangs));
    let all = triggers(&http, IDLE + 1);
    let answers = join_all(all.iter().map(|kept| timeout(HTTP_TIMEOUT, kept.read(&server)))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(Result::is_ok)));
    assert_eq!(server.saw(), [IDLE + 1, 0, 1, IDLE]);
}

#[tokio::test]
async fn a_bounded_number_is_used_at_a_time_and_fewer_are_kept() {
    let (http, server) = (http(), Server::<true>::new());
    let all = triggers(&http, 50);
    let answers = join_all(all.iter().map(|kept| kept.read(&server))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.counts.most_open.load(Ordering::SeqCst), AT_ONCE);
    // Nobody connected while others ended connections.
    let [dialled, _, hung_up, open] = server.saw();
    assert_eq!([dialled, hung_up, open], [AT_ONCE, AT_ONCE - IDLE, IDLE]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_what_for_and_others_are_not_concerned() {
    let (http, server) = (http(), Server::<true>::new());
    let slow = server.with(Manner::Hangs, Manner::Answers);
    let all = triggers(&http, AT_ONCE + 1);
    let (last, first) = all.split_last().unwrap();
    let hang = join_all(first.iter().map(|kept| timeout(HTTP_TIMEOUT * 2, kept.read(&slow))));
    let others = async {
        assert!(trigger(&http, "other").read(&server).await.is_ok());
        // As whoever samples a source does.
        timeout(HTTP_TIMEOUT, last.read(&server)).await.expect("an error before the deadline").unwrap_err().text()
    };
    let (gave_up, told) = tokio::join!(hang, others);
    assert!(gave_up.iter().all(Result::is_err));
    assert_eq!(
        told,
        "the source is not available: 16 reads of this server are under way; another waited 2.25s for its turn"
    );
    // Those that were given up took their connections with them and left their turns.
    assert_eq!(server.saw()[3], 0);
    assert!(last.read(&server).await.is_ok());
}

#[tokio::test]
async fn connections_end_with_the_last_trigger() {
    let (http, server) = (http(), Server::<true>::new());
    let mut all = triggers(&http, 2);
    let answers = join_all(all.iter().map(|kept| kept.read(&server))).await;
    assert!(answers.iter().all(Result::is_ok));
    for left in [2, 1, 0] {
        assert_eq!((server.saw()[3], http.shared.count().0), (left, usize::from(left > 0)));
        all.pop();
    }
}
