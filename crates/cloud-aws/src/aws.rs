//! The calls: each takes a token from its bucket, pages to the end and sorts its errors. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::types::{Filter, Instance, LaunchTemplate, LocationType, ResourceType, TagSpecification};
use aws_sdk_pricing::types::{Filter as PriceFilter, FilterType};
use units::UsdMicrosPerHour;

use crate::class::Selector;
use crate::errors::CallError;
use crate::images::Image;
use crate::limits::{Bucket, Limits};
use crate::prices::{self, SpotPrice};
use crate::selectors::{filter, filters};
use crate::template::{self, Content};
use crate::type_info::{Arch, TypeInfo};

/// A spot price older than AWS keeps its history (90 days) is none; an emulator may answer with such.
const SPOT_HISTORY_SECONDS: i64 = 90 * 24 * 3600;

/// Pages read before a listing is cut off: far above what any account has, against a server that never ends.
const PAGES_MAX: usize = 1000;

/// A subnet of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) zone: String,
    pub(crate) free_addresses: i64,
}

/// The clients and their limiter.
#[derive(Debug)]
pub(crate) struct Aws {
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
    pub(crate) pricing: aws_sdk_pricing::Client,
    pub(crate) limits: Limits,
}

type Call<T> = Result<T, CallError>;

impl Aws {
    pub(crate) async fn instance_types(&self) -> Call<Vec<TypeInfo>> {
        let mut types = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::ReadAll).await;
            let page = self
                .ec2
                .describe_instance_types()
                .filters(filter("supported-virtualization-type", ["hvm".to_owned()]))
                .filters(filter("processor-info.supported-architecture", ["x86_64".to_owned(), "arm64".to_owned()]))
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("DescribeInstanceTypes", error))?;
            types.extend(page.instance_types().iter().filter_map(TypeInfo::read));
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        Ok(types)
    }

    /// The zones each type is offered in.
    pub(crate) async fn offerings(&self) -> Call<BTreeMap<String, BTreeSet<String>>> {
        let mut zones: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::ReadAll).await;
            let page = self
                .ec2
                .describe_instance_type_offerings()
                .location_type(LocationType::AvailabilityZone)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("DescribeInstanceTypeOfferings", error))?;
            for offering in page.instance_type_offerings() {
                if let (Some(name), Some(zone)) = (offering.instance_type(), offering.location()) {
                    zones.entry(name.as_str().to_owned()).or_default().insert(zone.to_owned());
                }
            }
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        Ok(zones)
    }

    /// The subnets any selector matches, by id.
    pub(crate) async fn subnets(&self, selectors: &[Selector]) -> Call<Vec<Subnet>> {
        let mut found = BTreeMap::new();
        for selector in selectors {
            self.limits.take(Bucket::Read).await;
            let answer = self
                .ec2
                .describe_subnets()
                .set_filters(Some(filters(selector, "subnet-id", "tag:Name")))
                .send()
                .await
                .map_err(|error| CallError::new("DescribeSubnets", error))?;
            for subnet in answer.subnets() {
                if let (Some(id), Some(zone)) = (subnet.subnet_id(), subnet.availability_zone()) {
                    let free_addresses = i64::from(subnet.available_ip_address_count().unwrap_or(0));
                    found.insert(id.to_owned(), Subnet { id: id.to_owned(), zone: zone.to_owned(), free_addresses });
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The ids of the security groups any selector matches, sorted.
    pub(crate) async fn security_groups(&self, selectors: &[Selector]) -> Call<Vec<String>> {
        let mut found = BTreeSet::new();
        for selector in selectors {
            self.limits.take(Bucket::Read).await;
            let answer = self
                .ec2
                .describe_security_groups()
                .set_filters(Some(filters(selector, "group-id", "group-name")))
                .send()
                .await
                .map_err(|error| CallError::new("DescribeSecurityGroups", error))?;
            found.extend(answer.security_groups().iter().filter_map(|group| group.group_id().map(str::to_owned)));
        }
        Ok(found.into_iter().collect())
    }

    /// The images any selector matches and that can be booted now.
    pub(crate) async fn images(&self, selectors: &[Selector]) -> Call<Vec<Image>> {
        let mut found = Vec::new();
        for selector in selectors {
            let mut wanted = filters(selector, "image-id", "name");
            wanted.push(filter("state", ["available".to_owned()]));
            // Karpenter's rule: by name alone only the account's and Amazon's own images are trusted.
            let owners = match &selector.owner {
                Some(owner) => vec![owner.clone()],
                None if selector.name.is_some() => vec!["self".to_owned(), "amazon".to_owned()],
                None => Vec::new(),
            };
            self.limits.take(Bucket::Read).await;
            let answer = self
                .ec2
                .describe_images()
                .set_filters(Some(wanted))
                .set_owners(Some(owners).filter(|owners| !owners.is_empty()))
                .send()
                .await
                .map_err(|error| CallError::new("DescribeImages", error))?;
            for image in answer.images() {
                let arch = match image.architecture().map(aws_sdk_ec2::types::ArchitectureValues::as_str) {
                    Some("x86_64") | None => Arch::Amd64,
                    Some("arm64") => Arch::Arm64,
                    Some(_) => continue,
                };
                if let Some(id) = image.image_id() {
                    let created = image.creation_date().unwrap_or_default().to_owned();
                    found.push(Image { id: id.to_owned(), arch, created });
                }
            }
        }
        Ok(found)
    }

    /// A parameter's value; `None` if there is no such parameter.
    pub(crate) async fn parameter(&self, name: &str) -> Call<Option<String>> {
        self.limits.take(Bucket::Parameters).await;
        match self.ssm.get_parameter().name(name).send().await {
            Ok(answer) => Ok(answer.parameter().and_then(|parameter| parameter.value()).map(str::to_owned)),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(aws_sdk_ssm::operation::get_parameter::GetParameterError::is_parameter_not_found) =>
            {
                Ok(None)
            }
            Err(error) => Err(CallError::new("GetParameter", error)),
        }
    }

    /// Makes a template; fails with `AlreadyExists` if it is there.
    pub(crate) async fn create_template(&self, name: &str, content: &Content) -> Call<()> {
        self.limits.take(Bucket::Write).await;
        self.ec2
            .create_launch_template()
            .launch_template_name(name)
            // A retry by the SDK is the same request, a later one is answered with AlreadyExists.
            .launch_template_data(content.data())
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::LaunchTemplate)
                    .set_tags(Some(template::tags(&content.own_tags())))
                    .build(),
            )
            .send()
            .await
            .map(|_| ())
            .map_err(|error| CallError::new("CreateLaunchTemplate", error))
    }

    /// Templates that match the filters, or the one of this name.
    pub(crate) async fn templates(&self, name: Option<&str>, wanted: Vec<Filter>) -> Call<Vec<LaunchTemplate>> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::Read).await;
            let page = self
                .ec2
                .describe_launch_templates()
                .set_launch_template_names(name.map(|name| vec![name.to_owned()]))
                .set_filters(Some(wanted.clone()).filter(|wanted| !wanted.is_empty()))
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("DescribeLaunchTemplates", error))?;
            found.extend_from_slice(page.launch_templates());
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    pub(crate) async fn delete_template(&self, name: &str) -> Call<()> {
        self.limits.take(Bucket::Write).await;
        self.ec2
            .delete_launch_template()
            .launch_template_name(name)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| CallError::new("DeleteLaunchTemplate", error))
    }

    pub(crate) async fn create_fleet(
        &self,
        build: impl FnOnce(CreateFleetFluentBuilder) -> CreateFleetFluentBuilder,
    ) -> Call<CreateFleetOutput> {
        self.limits.take(Bucket::Launch).await;
        build(self.ec2.create_fleet()).send().await.map_err(|error| CallError::new("CreateFleet", error))
    }

    /// Instances that match all filters.
    pub(crate) async fn instances(&self, wanted: Vec<Filter>) -> Call<Vec<Instance>> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::Read).await;
            let page = self
                .ec2
                .describe_instances()
                .set_filters(Some(wanted.clone()))
                .max_results(1000)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("DescribeInstances", error))?;
            found.extend(page.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances).cloned());
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Terminates all of them or, if one is not there, none: `NotFound`.
    pub(crate) async fn terminate(&self, ids: Vec<String>) -> Call<()> {
        self.limits.take(Bucket::Terminate).await;
        self.ec2
            .terminate_instances()
            .set_instance_ids(Some(ids))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| CallError::new("TerminateInstances", error))
    }

    /// On-demand prices of the region, Linux, shared tenancy.
    pub(crate) async fn on_demand_prices(&self, region: &str) -> Call<HashMap<String, UsdMicrosPerHour>> {
        let wanted = [
            ("regionCode", region),
            ("operatingSystem", "Linux"),
            ("preInstalledSw", "NA"),
            ("tenancy", "Shared"),
            ("capacitystatus", "Used"),
            ("marketoption", "OnDemand"),
        ];
        let filters: Vec<PriceFilter> = wanted
            .into_iter()
            .filter_map(|(field, value)| {
                PriceFilter::builder().field(field).value(value).r#type(FilterType::TermMatch).build().ok()
            })
            .collect();
        let mut prices = HashMap::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::Prices).await;
            let page = self
                .pricing
                .get_products()
                .service_code("AmazonEC2")
                .set_filters(Some(filters.clone()))
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("GetProducts", error))?;
            prices.extend(page.price_list().iter().filter_map(|text| prices::product(text)));
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        Ok(prices)
    }

    /// The spot prices that hold at `now`, newest first for each pool.
    pub(crate) async fn spot_prices(&self, now: SystemTime) -> Call<Vec<SpotPrice>> {
        let oldest = aws_smithy_types::DateTime::from(now).secs() - SPOT_HISTORY_SECONDS;
        let mut rows: Vec<(i64, SpotPrice)> = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            self.limits.take(Bucket::Read).await;
            let page = self
                .ec2
                .describe_spot_price_history()
                .start_time(now.into())
                .product_descriptions("Linux/UNIX")
                .product_descriptions("Linux/UNIX (Amazon VPC)")
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::new("DescribeSpotPriceHistory", error))?;
            for row in page.spot_price_history() {
                let at = row.timestamp().map_or(0, aws_smithy_types::DateTime::secs);
                if let (Some(name), Some(zone), Some(price)) =
                    (row.instance_type(), row.availability_zone(), row.spot_price().and_then(prices::dollars))
                    && at >= oldest
                {
                    let instance_type = name.as_str().to_owned();
                    rows.push((at, SpotPrice { instance_type, zone: zone.to_owned(), price }));
                }
            }
            token = next(page.next_token());
            if token.is_none() {
                break;
            }
        }
        rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// The token of the page after this one. EC2 ends with an absent or an empty one.
fn next(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}
