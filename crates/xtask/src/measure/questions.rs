//! How long the HPA controller, or anybody, waits for a value.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::Client;
use testkit::bed::http_get;
use tokio::task::JoinSet;

/// Asks for the metric of one object after the other, so many times a second, through the API server's aggregation layer as the HPA
/// controller does, and says how long the answers took.
pub(super) async fn ask(
    client: &Client,
    namespace: &str,
    objects: usize,
    per_second: u32,
    period: Duration,
) -> Result<()> {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut answers = JoinSet::new();
    let began = Instant::now();
    for number in (0..objects).cycle() {
        clock.tick().await;
        if began.elapsed() >= period {
            break;
        }
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dmany-{number}"
        );
        let client = client.clone();
        answers.spawn(async move {
            let asked = Instant::now();
            let answer = client.request_text(http_get(&path)?).await?;
            ensure!(answer.contains("\"value\""), "no value: {answer}");
            Ok(asked.elapsed())
        });
    }
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    while let Some(answer) = answers.join_next().await {
        match answer? {
            Ok(time) => took.push(time),
            Err(error) => failed.push(error),
        }
    }
    took.sort();
    println!(
        "    {} questions, {per_second} a second: {}; {} without a value",
        took.len() + failed.len(),
        spread(&took),
        failed.len()
    );
    if let Some(error) = failed.first() {
        println!("        the first: {error:#}");
    }
    Ok(())
}

/// Median and 99th percentile of sorted times.
fn spread(sorted: &[Duration]) -> String {
    let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
    let text =
        |time: Option<&Duration>| time.map_or("-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
    format!("median {}, 99 of 100 within {}, the longest {}", text(at(50)), text(at(99)), text(sorted.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_100_is_not_the_longest() {
        let times: Vec<Duration> = (1..=1000).map(Duration::from_millis).collect();
        assert_eq!(spread(&times), "median 501.0 ms, 99 of 100 within 991.0 ms, the longest 1000.0 ms");
        assert_eq!(spread(&[]), "median -, 99 of 100 within -, the longest -");
    }
}
