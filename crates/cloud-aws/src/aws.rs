//! The calls: each takes a token from its bucket, pages to the end and sorts its errors. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::types::{Filter, Instance, LaunchTemplate, LocationType, ResourceType, TagSpecification};
use aws_sdk_pricing::types::{Filter as PriceFilter, FilterType};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
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
    /// One call: its token, then the call itself, its error sorted.
    fn call<T, E>(
        &self,
        bucket: Bucket,
        operation: &'static str,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Call<T>>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        // The SDK's futures are some kilobytes large; boxed, they do not add up in those of our callers.
        let send = Box::pin(send);
        async move {
            self.limits.take(bucket).await;
            send.await.map_err(|error| CallError::new(operation, error))
        }
    }

    /// All pages of a listing: `ask` sends the call for the page of a token, and says what is on it and the token of the next.
    async fn pages<T, E, F>(
        &self,
        bucket: Bucket,
        operation: &'static str,
        ask: impl Fn(Option<String>) -> F,
    ) -> Call<Vec<T>>
    where
        F: Future<Output = Result<(Vec<T>, Option<String>), SdkError<E, HttpResponse>>>,
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let mut all = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let (found, next) = self.call(bucket, operation, ask(token)).await?;
            all.extend(found);
            // EC2 ends with an absent or an empty token.
            token = next.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    pub(crate) async fn instance_types(&self) -> Call<Vec<TypeInfo>> {
        self.pages(Bucket::ReadAll, "DescribeInstanceTypes", |token| {
            let call = self
                .ec2
                .describe_instance_types()
                .filters(filter("supported-virtualization-type", ["hvm".to_owned()]))
                .filters(filter("processor-info.supported-architecture", ["x86_64".to_owned(), "arm64".to_owned()]));
            let call = call.set_next_token(token);
            async move {
                let page = call.send().await?;
                Ok((page.instance_types().iter().filter_map(TypeInfo::read).collect(), page.next_token))
            }
        })
        .await
    }

    /// The zones each type is offered in.
    pub(crate) async fn offerings(&self) -> Call<BTreeMap<String, BTreeSet<String>>> {
        let offerings = self
            .pages(Bucket::ReadAll, "DescribeInstanceTypeOfferings", |token| {
                let call = self.ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone);
                let call = call.set_next_token(token);
                async move {
                    let page = call.send().await?;
                    Ok((page.instance_type_offerings.unwrap_or_default(), page.next_token))
                }
            })
            .await?;
        let mut zones: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for offering in offerings {
            if let (Some(name), Some(zone)) = (offering.instance_type(), offering.location()) {
                zones.entry(name.as_str().to_owned()).or_default().insert(zone.to_owned());
            }
        }
        Ok(zones)
    }

    /// The subnets any selector matches, by id.
    pub(crate) async fn subnets(&self, selectors: &[Selector]) -> Call<Vec<Subnet>> {
        let mut found = BTreeMap::new();
        for selector in selectors {
            let call = self.ec2.describe_subnets().set_filters(Some(filters(selector, "subnet-id", "tag:Name")));
            let answer = self.call(Bucket::Read, "DescribeSubnets", call.send()).await?;
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
            let wanted = filters(selector, "group-id", "group-name");
            let call = self.ec2.describe_security_groups().set_filters(Some(wanted));
            let answer = self.call(Bucket::Read, "DescribeSecurityGroups", call.send()).await?;
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
            let owners = Some(owners).filter(|owners| !owners.is_empty());
            let call = self.ec2.describe_images().set_filters(Some(wanted)).set_owners(owners);
            let answer = self.call(Bucket::Read, "DescribeImages", call.send()).await?;
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
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::LaunchTemplate)
            .set_tags(Some(template::tags(&content.own_tags())));
        // A retry by the SDK is the same request, a later one is answered with AlreadyExists.
        let call = self.ec2.create_launch_template().launch_template_name(name).launch_template_data(content.data());
        let call = call.tag_specifications(tags.build());
        self.call(Bucket::Write, "CreateLaunchTemplate", call.send()).await.map(drop)
    }

    /// Templates that match the filters, or the one of this name.
    pub(crate) async fn templates(&self, name: Option<&str>, wanted: Vec<Filter>) -> Call<Vec<LaunchTemplate>> {
        let wanted = Some(wanted).filter(|wanted| !wanted.is_empty());
        let names = name.map(|name| vec![name.to_owned()]);
        self.pages(Bucket::Read, "DescribeLaunchTemplates", |token| {
            let call = self.ec2.describe_launch_templates();
            let call = call.set_launch_template_names(names.clone()).set_filters(wanted.clone());
            let call = call.set_next_token(token);
            async move {
                let page = call.send().await?;
                Ok((page.launch_templates.unwrap_or_default(), page.next_token))
            }
        })
        .await
    }

    pub(crate) async fn delete_template(&self, name: &str) -> Call<()> {
        let call = self.ec2.delete_launch_template().launch_template_name(name);
        self.call(Bucket::Write, "DeleteLaunchTemplate", call.send()).await.map(drop)
    }

    pub(crate) async fn create_fleet(
        &self,
        build: impl FnOnce(CreateFleetFluentBuilder) -> CreateFleetFluentBuilder,
    ) -> Call<CreateFleetOutput> {
        self.call(Bucket::Launch, "CreateFleet", build(self.ec2.create_fleet()).send()).await
    }

    /// Instances that match all filters.
    pub(crate) async fn instances(&self, wanted: Vec<Filter>) -> Call<Vec<Instance>> {
        self.pages(Bucket::Read, "DescribeInstances", |token| {
            let call = self.ec2.describe_instances().set_filters(Some(wanted.clone())).max_results(1000);
            let call = call.set_next_token(token);
            async move {
                let page = call.send().await?;
                let found = page.reservations.unwrap_or_default().into_iter().filter_map(|it| it.instances).flatten();
                Ok((found.collect(), page.next_token))
            }
        })
        .await
    }

    /// Terminates all of them or, if one is not there, none: `NotFound`.
    pub(crate) async fn terminate(&self, ids: Vec<String>) -> Call<()> {
        let call = self.ec2.terminate_instances().set_instance_ids(Some(ids));
        self.call(Bucket::Terminate, "TerminateInstances", call.send()).await.map(drop)
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
        let prices = self
            .pages(Bucket::Prices, "GetProducts", |token| {
                let call = self.pricing.get_products().service_code("AmazonEC2").set_filters(Some(filters.clone()));
                let call = call.set_next_token(token);
                async move {
                    let page = call.send().await?;
                    Ok((page.price_list().iter().filter_map(|text| prices::product(text)).collect(), page.next_token))
                }
            })
            .await?;
        Ok(prices.into_iter().collect())
    }

    /// The spot prices that hold at `now`, newest first for each pool.
    pub(crate) async fn spot_prices(&self, now: SystemTime) -> Call<Vec<SpotPrice>> {
        let oldest = aws_smithy_types::DateTime::from(now).secs() - SPOT_HISTORY_SECONDS;
        let history = self
            .pages(Bucket::Read, "DescribeSpotPriceHistory", |token| {
                let call = self
                    .ec2
                    .describe_spot_price_history()
                    .start_time(now.into())
                    .product_descriptions("Linux/UNIX")
                    .product_descriptions("Linux/UNIX (Amazon VPC)");
                let call = call.set_next_token(token);
                async move {
                    let page = call.send().await?;
                    Ok((page.spot_price_history.unwrap_or_default(), page.next_token))
                }
            })
            .await?;
        let mut rows: Vec<(i64, SpotPrice)> = Vec::new();
        for row in history {
            let at = row.timestamp().map_or(0, aws_smithy_types::DateTime::secs);
            if let (Some(name), Some(zone), Some(price)) =
                (row.instance_type(), row.availability_zone(), row.spot_price().and_then(prices::dollars))
                && at >= oldest
            {
                let instance_type = name.as_str().to_owned();
                rows.push((at, SpotPrice { instance_type, zone: zone.to_owned(), price }));
            }
        }
        rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}
