//! Prometheus text and OpenMetrics.
//!
//! Owns the two formats; must not know what is measured. Invariant: families are written once each, names and label
//! values are escaped, and an OpenMetrics text ends with `# EOF`.

use std::fmt::Write;

/// Which format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes families of metrics.
#[derive(Debug)]
pub(crate) struct Exposition {
    format: Format,
    text: String,
}

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(4096) }
    }

    /// A family of counters. `name` has no `_total`: the format says where it goes.
    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Counter)
    }

    /// A family of gauges.
    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Gauge)
    }

    /// A family of histograms.
    pub(crate) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Histogram)
    }

    /// The text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn family(&mut self, name: &str, help: &str, kind: Kind) -> Family<'_> {
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // The older format names a counter by its sample, the newer one by its family.
        let suffix = if kind == Kind::Counter && self.format == Format::Prometheus { "_total" } else { "" };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.text, "# TYPE {name}{suffix} {kind_name}\n# HELP {name}{suffix} {help}\n");
        let sample = if kind == Kind::Counter { format!("{name}_total") } else { name.to_owned() };
        Family { exposition: self, sample }
    }
}

/// Writes the samples of one family.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    exposition: &'a mut Exposition,
    sample: String,
}

impl Family<'_> {
    /// One value.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: u64) -> &mut Self {
        let labels = join(labels, None);
        let _ = writeln!(self.exposition.text, "{}{labels} {value}", self.sample);
        self
    }

    /// One histogram: counts of each bucket with its upper bound in seconds, not cumulated, those above all bounds, and the
    /// sum in seconds.
    pub(crate) fn buckets(
        &mut self, labels: &[(&str, &str)], counts: &[(f64, u64)], above: u64, sum_s: f64,
    ) -> &mut Self {
        let mut total = 0;
        for (bound, count) in counts {
            total += count;
            let bound = format!("{bound:?}");
            let labels = join(labels, Some(&bound));
            let _ = writeln!(self.exposition.text, "{}_bucket{labels} {total}", self.sample);
        }
        total += above;
        let (all, plain) = (join(labels, Some("+Inf")), join(labels, None));
        let name = &self.sample;
        let _ = write!(
            self.exposition.text,
            "{name}_bucket{all} {total}\n{name}_count{plain} {total}\n{name}_sum{plain} {sum_s}\n"
        );
        self
    }
}

fn join(labels: &[(&str, &str)], bound: Option<&str>) -> String {
    let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let pairs: Vec<_> = labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition.counter("calls", "Calls.").sample(&[("slot", "a\"b\\c\nd")], 7);
        exposition.gauge("memory_bytes", "Memory.").sample(&[], 1);
        exposition.histogram("call_seconds", "Time.").buckets(&[("slot", "a")], &[(0.001, 2), (1.0, 3)], 1, 4.5);
        exposition.finish()
    }

    #[test]
    fn prometheus_names_counters_by_their_sample() {
        let expected = "# TYPE calls_total counter\n# HELP calls_total Calls.\n\
            calls_total{slot=\"a\\\"b\\\\c\\nd\"} 7\n\
            # TYPE memory_bytes gauge\n# HELP memory_bytes Memory.\nmemory_bytes 1\n\
            # TYPE call_seconds histogram\n# HELP call_seconds Time.\n\
            call_seconds_bucket{slot=\"a\",le=\"0.001\"} 2\ncall_seconds_bucket{slot=\"a\",le=\"1.0\"} 5\n\
            call_seconds_bucket{slot=\"a\",le=\"+Inf\"} 6\ncall_seconds_count{slot=\"a\"} 6\ncall_seconds_sum{slot=\"a\"} 4.5\n";
        assert_eq!(text(Format::Prometheus), expected);
    }

    #[test]
    fn openmetrics_names_counters_by_their_family_and_ends() {
        let text = text(Format::OpenMetrics);
        assert!(text.starts_with("# TYPE calls counter\n# HELP calls Calls.\ncalls_total{"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_accept_header_decides() {
        assert_eq!(Format::accepted("application/openmetrics-text;version=1.0.0,*/*"), Format::OpenMetrics);
        assert_eq!(Format::accepted("text/plain"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
