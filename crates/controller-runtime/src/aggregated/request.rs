//! What a request asks for, in the words authorisation rules use.

use std::fmt;

use http::Method;
use percent_encoding::percent_decode_str;

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// Something with an API resource.
    Resource {
        /// `get`, `list`, `create`, …
        verb: String,
        /// API group.
        group: String,
        /// API version.
        version: String,
        /// Empty for cluster-scoped requests.
        namespace: String,
        /// For external metrics: the metric's name.
        resource: String,
        /// Empty if the request is about the collection.
        name: String,
        /// Empty if there is none.
        subresource: String,
    },
    /// Something with a path, such as discovery.
    Path {
        /// The HTTP method in lower case.
        verb: String,
        /// As requested.
        path: String,
    },
}

/// Reads them from method and path by the rules of the API server (`k8s.io/apiserver/pkg/endpoints/request`), which
/// authorises the same request before it forwards it: a GET of a collection is `list`.
pub fn attributes(method: &Method, path: &str) -> Attributes {
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let as_path = || Attributes::Path { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned() };
    let ("apis", [_, group, version, rest @ ..]) = (parts.first().map_or("", String::as_str), parts.as_slice()) else {
        return as_path();
    };
    let (namespace, rest) = match rest {
        // `namespaces/ns` alone would be the Namespace object, which no aggregated server of ours has.
        [literal, namespace, rest @ ..] if literal == "namespaces" && !rest.is_empty() => (namespace.as_str(), rest),
        rest => ("", rest),
    };
    let Some(resource) = rest.first() else { return as_path() };
    let name = rest.get(1).cloned().unwrap_or_default();
    let verb = match *method {
        Method::GET | Method::HEAD if name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    };
    Attributes::Resource {
        verb: verb.to_owned(),
        group: group.clone(),
        version: version.clone(),
        namespace: namespace.to_owned(),
        resource: resource.clone(),
        name,
        subresource: rest.get(2).cloned().unwrap_or_default(),
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { verb, path } => write!(f, "{verb} path {path:?}"),
            Self::Resource { verb, group, namespace, resource, .. } => {
                write!(f, "{verb} resource {resource:?} in API group {group:?}")?;
                if namespace.is_empty() {
                    write!(f, " at the cluster scope")
                } else {
                    write!(f, " in the namespace {namespace:?}")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_read_is_a_list_of_the_resource_named_like_the_metric() {
        let asked = attributes(&Method::GET, "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/s0-prometheus");
        let expected = Attributes::Resource {
            verb: "list".into(),
            group: "external.metrics.k8s.io".into(),
            version: "v1beta1".into(),
            namespace: "shop".into(),
            resource: "s0-prometheus".into(),
            name: String::new(),
            subresource: String::new(),
        };
        assert_eq!(asked, expected);
        assert_eq!(
            asked.to_string(),
            r#"list resource "s0-prometheus" in API group "external.metrics.k8s.io" in the namespace "shop""#
        );
    }

    #[test]
    fn discovery_is_a_path() {
        for path in ["/apis", "/apis/external.metrics.k8s.io", "/apis/external.metrics.k8s.io/v1beta1", "/openapi/v2"] {
            assert_eq!(
                attributes(&Method::GET, path),
                Attributes::Path { verb: "get".into(), path: path.into() },
                "{path}"
            );
        }
    }

    #[test]
    fn an_encoded_slash_does_not_make_another_path_segment() {
        let asked = attributes(&Method::GET, "/apis/g/v1/namespaces/a%2Fb/metric");
        assert!(
            matches!(asked, Attributes::Resource { namespace, resource, .. } if namespace == "a/b" && resource == "metric")
        );
    }
}
