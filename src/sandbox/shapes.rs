//! What is said between this program, its other processes and a guest's agent has one shape for each version.

use std::net::IpAddr;

use msb_agent::protocol::{
    Amount, Clock, CommandProblem, DeviceKind, Event, ExitStatus, Failure, FromAgent, Hello, MountSource,
    Namespace, Personality, Reply, Request, RootSource, Stream, StreamHello, ToAgent, VERSION,
};

use serde::de::DeserializeOwned;
use serde_reflection::{ContainerFormat, Format, Named, Tracer, TracerConfig, VariantFormat};

use super::control::{Answer, Question};
use crate::config::DiskConfig;

fn trace<M: DeserializeOwned>(tracer: &mut Tracer) {
    tracer.trace_simple_type::<M>().unwrap();
}

/// A line for each field and variant, in their order.
fn lines(name: &str, shape: &ContainerFormat) -> Vec<String> {
    match shape {
        ContainerFormat::UnitStruct => vec![name.to_owned()],
        ContainerFormat::NewTypeStruct(format) => vec![format!("{name}({format:?})")],
        ContainerFormat::TupleStruct(formats) => vec![format!("{name}{formats:?}")],
        ContainerFormat::Struct(fields) => self::fields(name, fields),
        ContainerFormat::Enum(variants) => {
            variants.iter().flat_map(|(number, variant)| of_variant(name, *number, variant)).collect()
        }
    }
}

fn of_variant(name: &str, number: u32, Named { name: variant, value }: &Named<VariantFormat>) -> Vec<String> {
    let name = format!("{name}::{variant} = {number}");
    match value {
        VariantFormat::NewType(format) => vec![format!("{name}({format:?})")],
        VariantFormat::Tuple(formats) => vec![format!("{name}{formats:?}")],
        VariantFormat::Struct(fields) => self::fields(&name, fields),
        VariantFormat::Unit | VariantFormat::Variable(_) => vec![name],
    }
}

fn fields(name: &str, fields: &[Named<Format>]) -> Vec<String> {
    fields.iter().map(|Named { name: field, value }| format!("{name}.{field}: {value:?}")).collect()
}

/// Who changes a message raises [`VERSION`] and takes the new snapshot beside the old one, which goes: a change of a snapshot
/// under its old name is a message that the other side does not understand and does not refuse.
#[test]
fn messages_have_the_shape_of_their_version() {
    let mut tracer = Tracer::new(TracerConfig::default());
    // Of each enum every variant, wherever it is.
    for trace in [
        trace::<Question>,
        trace::<DiskConfig>,
        trace::<Answer>,
        trace::<Hello>,
        trace::<ToAgent>,
        trace::<Request>,
        trace::<FromAgent>,
        trace::<Result<Reply, Failure>>,
        trace::<Reply>,
        trace::<Failure>,
        trace::<Event>,
        trace::<StreamHello>,
        trace::<Amount>,
        trace::<Clock>,
        trace::<CommandProblem>,
        trace::<DeviceKind>,
        trace::<ExitStatus>,
        trace::<IpAddr>,
        trace::<MountSource>,
        trace::<Namespace>,
        trace::<Personality>,
        trace::<RootSource>,
        trace::<Stream>,
    ] {
        trace(&mut tracer);
    }
    let mut shapes = Vec::new();
    for (name, shape) in tracer.registry().unwrap() {
        shapes.extend(lines(&name, &shape));
    }
    insta::assert_snapshot!(format!("version_{VERSION}"), shapes.join("\n"));
}
