//! AWS Secrets Manager as moto plays it.

use anyhow::{Result, ensure};
use reqwest::Client;
use scalers::stores::{AwsKeys, AwsSecret, AwsSecrets};
use scalers::{HTTP_TIMEOUT, Http, ScalerError};
use serde_json::{Value, json};
use testkit::aws::AwsDouble;
use testkit::children::Folder;

const KEYS: AwsKeys<'_> = AwsKeys::Given { id: "AKID", secret: "key", token: None };

/// A call of the service's API that only names its service: moto believes every signature.
async fn call(aws: &AwsDouble, action: &str, question: &Value) -> Result<()> {
    let scope = format!("Credential=test/20260101/{}/secretsmanager/aws4_request", aws.region());
    let request = Client::new()
        .post(aws.control().url())
        .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("secretsmanager.{action}"))
        .body(question.to_string());
    let answer = request.send().await?;
    ensure!(answer.status().is_success(), "{action}: {}", answer.text().await?);
    Ok(())
}

fn wanted(aws: &AwsDouble, name: &str, field: Option<&str>, stage: Option<&str>) -> AwsSecrets {
    let secret = AwsSecret {
        parameter: "password".into(),
        name: name.into(),
        version_id: None,
        version_stage: stage.map(str::to_owned),
        field: field.map(str::to_owned),
    };
    AwsSecrets { region: aws.region().into(), endpoint: Some(aws.control().url().into()), secrets: vec![secret] }
}

#[tokio::test]
async fn a_secret_is_read_whole_in_part_and_as_it_was() {
    let folder = Folder::new().unwrap();
    let aws = AwsDouble::start(folder.path()).await.unwrap();
    let text = json!({"user": "u", "password": "first"}).to_string();
    call(&aws, "CreateSecret", &json!({"Name": "shop/db", "SecretString": text})).await.unwrap();
    let http = Http::new(HTTP_TIMEOUT);
    let read = async |field, stage| {
        let stored = wanted(&aws, "shop/db", field, stage).read(&http, KEYS).await;
        stored.map(|mut stored| stored.parameters.remove("password").unwrap_or_default())
    };
    assert_eq!(read(None, None).await.unwrap(), text);
    assert_eq!(read(Some("password"), None).await.unwrap(), "first");
    let second = json!({"SecretId": "shop/db", "SecretString": json!({"password": "second"}).to_string()});
    call(&aws, "PutSecretValue", &second).await.unwrap();
    assert_eq!(read(Some("password"), None).await.unwrap(), "second");
    assert_eq!(read(Some("password"), Some("AWSPREVIOUS")).await.unwrap(), "first");
    let field = read(Some("token"), None).await.unwrap_err();
    assert!(field.text().contains("AWS secret shop/db: ") && field.text().contains("no field \"token\""), "{field:?}");
    let missing = wanted(&aws, "shop/nothing", None, None).read(&http, KEYS).await.unwrap_err();
    assert!(matches!(missing, ScalerError::Misconfigured { .. }), "{missing:?}");
    assert!(missing.text().contains("AWS secret shop/nothing"), "{}", missing.text());
}
