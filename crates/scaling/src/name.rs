//! Names that other people's tools build on.

/// The name of a trigger's metric in the HPA: `s<index>-<normalised>`.
///
/// `index` is the trigger's position in the object; triggers without an external metric (cpu, memory) use up an
/// index too. Source: KEDA's `GenerateMetricNameWithIndex` and `NormalizeString`.
pub fn metric_name(index: usize, scaler_name: &str) -> String {
    format!("s{index}-{}", normalise(scaler_name))
}

/// A name with every character of `/ . : % ( )` replaced by `-`.
pub fn normalise(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '/' | '.' | ':' | '%' | '(' | ')') { '-' } else { c }).collect()
}

/// The name of the HPA when the object does not choose one.
pub fn default_hpa_name(object_name: &str) -> String {
    format!("keda-hpa-{object_name}")
}

/// A text that may be the value of a label: at most 63 bytes, and no punctuation at the end.
pub fn label_value(text: &str) -> String {
    let cut: String = text.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_those_of_keda() {
        assert_eq!(metric_name(0, "prometheus"), "s0-prometheus");
        assert_eq!(metric_name(12, "rabbitmq-%2Fvhost.a:b(c)"), "s12-rabbitmq--2Fvhost-a-b-c-");
        assert_eq!(default_hpa_name("web"), "keda-hpa-web");
    }

    #[test]
    fn a_long_name_is_cut_where_a_label_may_end() {
        let long = format!("{}-.-tail", "a".repeat(61));
        assert_eq!(label_value(&long), "a".repeat(61));
        assert_eq!(label_value("web"), "web");
    }
}
