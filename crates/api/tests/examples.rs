//! The manifests of the walkthrough are read as they are meant, and nothing is wrong with them.

use std::path::Path;

use api::karpenter_v1alpha5::Provisioner;
use api::keda::ScaledObject;
use api::{convert, unsupported, validate};
use serde::de::DeserializeOwned;

fn example<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/walkthrough").join(name);
    let text = std::fs::read_to_string(path).expect("the example is there");
    serde_saphyr::from_str(&text).expect("the example is of its kind")
}

#[test]
fn the_scaled_objects_are_sound_and_fully_supported() {
    for name in ["scaledobject.yaml", "total/scaledobject.yaml"] {
        let object: ScaledObject = example(name);
        assert_eq!(validate::validate(&object), [], "{name}");
        assert_eq!(unsupported::unsupported(&object), [], "{name}");
        assert_eq!(object.spec.triggers[0].metadata["threshold"], "10");
        assert_eq!((object.spec.effective_min(), object.spec.effective_max()), (1, 10));
        assert_eq!(object.spec.hpa_name("nginx"), "keda-hpa-nginx");
    }
}

#[test]
fn the_provisioner_is_sound_and_fully_supported() {
    let object: Provisioner = example("provisioner.yaml");
    assert_eq!(validate::validate(&object), []);
    assert_eq!(unsupported::unsupported(&object), []);
    let template = convert::provisioner(&object).unwrap();
    assert_eq!(template.limits.unwrap().to_string(), "cpu: 1k, memory: 1000Gi");
    assert_eq!(template.class.kind, "Provisioner");
}
