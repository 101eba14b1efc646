//! The report as one page that stands by itself: no script, no font, picture or style from anywhere else.
//!
//! It is well-formed as XML, too, so that a test can hold it to that.

use crate::report::curves;
use crate::report::plot::{Plot, escape};
use crate::report::table::{Count, Ns, size, utc};
use crate::report::times::QUANTILES;
use crate::report::{KernelUse, Pace, PhaseReport, Report, Times};
use crate::witness::Counts;

const STYLE: &str = include_str!("page.css");

/// A figure with its name.
type Fact = (&'static str, String);

impl Report {
    /// Returns the report as a page.
    ///
    /// # Panics
    /// Never: a text takes everything that is written to it.
    #[must_use]
    pub fn to_html(&self) -> String {
        let started = utc(self.started_unix_seconds);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>corecast-load, {started}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>corecast-load</h1>\n<p class=\"quiet\">{started}, {}</p>\n",
            escape(&self.host_line())
        );
        self.verdict(&mut out);
        cards(&mut out, &self.main_facts());
        section(&mut out, "Over time", &curves::over_time(self));
        section(&mut out, "By percentile", &curves::by_percentile(self));
        for (phase, label) in self.phases.iter().zip(self.labels()) {
            phase_section(&mut out, phase, &label);
        }
        self.host_section(&mut out);
        let plan = escape(self.plan.to_toml().trim());
        out += &format!(
            "<section>\n<h2>Plan</h2>\n<p class=\"quiet\">Saved as plan.toml, it is run again with corecast-load --plan \
             plan.toml.</p>\n<pre>{plan}</pre>\n</section>\n</body>\n</html>\n"
        );
        out
    }

    fn host_line(&self) -> String {
        let host = &self.host;
        let kernel = host.kernel.replace("version ", "");
        format!("{kernel}, {} cores ({}), {}", host.cores, host.cpu_model, size(host.memory_bytes as f64))
    }

    fn verdict(&self, out: &mut String) {
        let problems = self.problems();
        if problems.is_empty() {
            *out += "<p class=\"verdict\"><strong>Fine.</strong> Every message came to everyone, once, whole and in \
                     order, over connections that all held.</p>\n";
        } else {
            *out += "<p class=\"verdict bad\"><strong>Not fine.</strong> ";
            *out += &format!("{}.</p>\n", escape(&problems.join("; ")));
        }
        for (phase, label) in self.phases.iter().zip(self.labels()) {
            if let Some(bottleneck) = phase.bottleneck() {
                let (name, bottleneck) = (escape(&label), escape(&bottleneck));
                *out += &format!(
                    "<p class=\"verdict warn\"><strong>Caution.</strong> In {name} the load generator was the \
                     bottleneck: {bottleneck}.</p>\n"
                );
            }
        }
        list(out, "Faults", &self.faults);
        list(out, "Not measured", &self.notes);
    }

    /// Returns what most people look for first, of the phases that tell it.
    fn main_facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        let most = self.phases.iter().map(|phase| phase.connections_after.max(phase.connections_before)).max();
        facts.push(("Connections", Count(most.unwrap_or(0).into()).to_string()));
        if let Some(rate) = self.phases.iter().find_map(PhaseReport::connections_per_second) {
            facts.push(("Connected per second", Count(rate as u64).to_string()));
        }
        if let Some(bytes) = self.phases.iter().find_map(PhaseReport::user_bytes_per_connection) {
            facts.push(("Server memory per connection", format!("{bytes:.0} B")));
        }
        if let Some(bytes) = self.phases.iter().find_map(PhaseReport::kernel_bytes_per_connection) {
            facts.push(("Kernel memory per connection, both ends", format!("{bytes:.0} B")));
        }
        let busiest = self.phases.iter().filter(|phase| phase.counts.delivered > 0);
        if let Some(phase) = busiest.max_by_key(|phase| phase.counts.delivered) {
            facts.push(("Delivered", Count(self.counts().delivered).to_string()));
            facts.push(("Latency, median", Ns(phase.latency.quantile_ns(0.5)).to_string()));
            facts.push(("Latency, p99", Ns(phase.latency.quantile_ns(0.99)).to_string()));
            facts.push(("Latency, longest", Ns(phase.latency.max_ns()).to_string()));
            if let Some(ns) = phase.server_cpu_ns_per_delivery() {
                facts.push(("Server CPU per delivery", Ns(ns as u64).to_string()));
            }
        }
        facts
    }

    fn host_section(&self, out: &mut String) {
        let host = &self.host;
        let mut rows = vec![
            ("Load generator", format!("corecast-load {}", host.program_version)),
            ("Kernel", host.kernel.clone()),
            ("Processor", format!("{}, {} cores", host.cpu_model, host.cores)),
            ("Memory", size(host.memory_bytes as f64)),
            ("Open files, at most", Count(host.open_files_max).to_string()),
            ("rps_cpus of lo", host.loopback_rps_cpus.clone()),
        ];
        rows.extend(host.sysctls.iter().map(|(name, value)| (name.as_str(), value.clone())));
        *out += "<section>\n<h2>Host</h2>\n<table>\n";
        for (name, value) in rows {
            *out += &format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(&value));
        }
        *out += "</table>\n</section>\n";
    }
}

fn list(out: &mut String, name: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    *out += &format!("<h3>{name}</h3>\n<ul>\n");
    for text in texts {
        *out += &format!("<li>{}</li>\n", escape(text));
    }
    *out += "</ul>\n";
}

fn section(out: &mut String, name: &str, plots: &[Plot]) {
    let markup: String = plots.iter().map(Plot::markup).collect();
    if !markup.is_empty() {
        *out += &format!("<section>\n<h2>{name}</h2>\n<div class=\"plots\">\n{markup}</div>\n</section>\n");
    }
}

fn cards(out: &mut String, facts: &[Fact]) {
    *out += "<dl class=\"cards\">\n";
    for (name, value) in facts {
        *out += &format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escape(value));
    }
    *out += "</dl>\n";
}

fn phase_section(out: &mut String, phase: &PhaseReport, label: &str) {
    let pace = match phase.pace {
        Pace::Silent => String::new(),
        Pace::Open { messages_per_second } => {
            format!("Open loop, {messages_per_second} messages a second: latency counts from when each was due.")
        }
        Pace::Closed { in_flight_messages } => format!(
            "Closed loop, {in_flight_messages} in flight: latency is the time on the way, blind to queues before it."
        ),
    };
    let name = escape(label);
    *out += &format!("<section>\n<h2>Phase: {name}</h2>\n<p class=\"quiet\">{:.2} s. {pace}</p>\n", phase.seconds);
    cards(out, &phase_facts(phase));
    times_table(out, phase);
    if let Some(kernel) = &phase.kernel {
        kernel_table(out, phase, kernel);
    }
    *out += "</section>\n";
}

fn phase_facts(phase: &PhaseReport) -> Vec<Fact> {
    let count = |count: u64| Count(count).to_string();
    let mut facts = vec![("Connections after", count(phase.connections_after.into()))];
    if let Some(rate) = phase.connections_per_second() {
        facts.push(("Connections made", count(phase.connections_made.into())));
        facts.push(("Connected per second", count(rate as u64)));
    }
    if phase.connections_failed > 0 {
        facts.push(("Connections failed", count(phase.connections_failed.into())));
    }
    if phase.pings > 0 {
        facts.push(("Pings of the server", count(phase.pings)));
    }
    let Counts { delivered, lost, duplicated, reordered, corrupted, late, told: _ } = phase.counts;
    if phase.published_messages > 0 || phase.counts != Counts::default() {
        facts.push(("Published", format!("{} of {} B", count(phase.published_messages), phase.payload_bytes)));
        facts.push(("Delivered", format!("{} of {}", count(delivered), count(phase.expected_messages))));
        if let Some(rate) = phase.deliveries_per_second() {
            facts.push(("Deliveries per second", count(rate as u64)));
        }
        facts.push(("Lost", count(lost)));
        facts.push(("Duplicated", count(duplicated)));
        facts.push(("Reordered", count(reordered)));
        facts.push(("Corrupted", count(corrupted)));
        facts.push(("Late", count(late)));
        facts.push(("Gaps told (messages)", format!("{} ({})", count(phase.gaps_told), count(phase.gap_messages))));
        facts.push(("Refused", count(phase.refused_messages)));
    }
    if let Some(server) = &phase.server {
        let percent = server.cpu_ns as f64 / 1e7 / phase.seconds.max(1e-9);
        facts.push(("Server CPU", format!("{percent:.1} % of a core")));
        if let Some(ns) = phase.server_cpu_ns_per_delivery() {
            facts.push(("Server CPU per delivery", Ns(ns as u64).to_string()));
        }
        if let Some(ns) = phase.server_cpu_ns_per_connection() {
            facts.push(("Server CPU per connection", Ns(ns as u64).to_string()));
        }
        if let Some(bytes) = server.resident_bytes_after {
            facts.push(("Server memory after", size(bytes as f64)));
        }
    }
    if let Some(bytes) = phase.user_bytes_per_connection() {
        facts.push(("Server memory per connection", format!("{bytes:.0} B")));
    }
    if let Some(bytes) = phase.kernel_bytes_per_connection() {
        facts.push(("Kernel memory per connection, both ends", format!("{bytes:.0} B")));
    }
    if !phase.worker_cpu_shares.is_empty() {
        let shares = phase.worker_cpu_shares.iter().map(|share| format!("{:.0} %", share * 100.0));
        facts.push(("Generator CPU, by worker", shares.collect::<Vec<_>>().join(", ")));
    }
    facts
}

/// One column for each histogram that is not empty.
fn times_table(out: &mut String, phase: &PhaseReport) {
    let all: Vec<(&str, &Times)> = phase.all_times().collect();
    if all.is_empty() {
        return;
    }
    *out += "<div class=\"scroll\"><table>\n<tr><th></th>";
    for (name, _) in &all {
        *out += &format!("<th class=\"n\">{}</th>", name.replace('-', " "));
    }
    *out += "</tr>\n";
    let mut row = |name: &str, value: &dyn Fn(&Times) -> String| {
        *out += &format!("<tr><th>{name}</th>");
        for (_, times) in &all {
            *out += &format!("<td class=\"n\">{}</td>", value(times));
        }
        *out += "</tr>\n";
    };
    for (quantile, name, _) in QUANTILES {
        row(name, &|times| Ns(times.quantile_ns(quantile)).to_string());
    }
    row("max", &|times| Ns(times.max_ns()).to_string());
    row("mean", &|times| Ns(times.mean_ns() as u64).to_string());
    row("count", &|times| Count(times.len()).to_string());
    *out += "</table></div>\n";
}

fn kernel_table(out: &mut String, phase: &PhaseReport, kernel: &KernelUse) {
    let per_connection = phase.kernel_bytes_per_connection().is_some();
    *out += "<h3>Kernel memory</h3>\n<p class=\"quiet\">Objects of the whole host: both ends of every connection, if both \
             are here. Caches may be merged by the kernel, and then go by one of their names. In brackets: of files and \
             processes, not counted for connections.</p>\n\
             <div class=\"scroll\"><table>\n<tr><th>cache</th><th class=\"n\">objects</th><th class=\"n\">grown</th>";
    *out += if per_connection { "<th class=\"n\">per connection</th></tr>\n" } else { "</tr>\n" };
    let mut row = |name: &str, counted: bool, objects: i64, bytes: i64| {
        let sign = if bytes < 0 { "-" } else { "" };
        let (name, grown) = (escape(name), size(bytes.unsigned_abs() as f64));
        let name = if counted { name } else { format!("({name})") };
        *out += &format!("<tr><td>{name}</td><td class=\"n\">{objects:+}</td><td class=\"n\">{sign}{grown}</td>");
        if per_connection {
            let each = bytes as f64 / f64::from(phase.connections_made.max(1));
            *out += &if counted { format!("<td class=\"n\">{each:.0} B</td>") } else { "<td></td>".to_owned() };
        }
        *out += "</tr>\n";
    };
    for cache in &kernel.caches {
        row(&cache.name, cache.of_connections, cache.grown_objects(), cache.grown_bytes());
    }
    let sockets = kernel.tcp_sockets_after as i64 - kernel.tcp_sockets_before as i64;
    let buffers = kernel.tcp_buffer_bytes_after as i64 - kernel.tcp_buffer_bytes_before as i64;
    row("TCP buffers (objects: sockets in use)", true, sockets, buffers);
    *out += "</table></div>\n";
}

#[cfg(test)]
mod tests {
    use crate::report::samples;

    /// Checks that markup is well-formed XML: every element that is opened is closed, in order, with attributes in
    /// quotes, and no stray `<` or `&`. Returns the elements' names.
    fn elements(page: &str) -> Vec<String> {
        let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype first");
        let (mut open, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        while let Some(at) = rest.find('<') {
            let (text, tag) = rest.split_at(at);
            for (entity, _) in text.match_indices('&') {
                let name = text[entity..].split(';').next().unwrap();
                assert!(["&amp", "&lt", "&gt", "&quot"].contains(&name), "stray & in {text}");
            }
            assert!(!text.contains('>'), "stray > in {text}");
            let end = tag.find('>').expect("a tag ends");
            let inner = &tag[1..end];
            rest = &tag[end + 1..];
            if let Some(name) = inner.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "before {}", &rest[..rest.len().min(80)]);
                continue;
            }
            let (body, closed) = inner.strip_suffix('/').map_or((inner, false), |body| (body, true));
            let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            let mut left = attributes;
            while !left.is_empty() {
                let (key, value) = left.split_once("=\"").expect(left);
                assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{key} in {inner}");
                let (_, after) = value.split_once('"').expect(value);
                left = after.strip_prefix(' ').unwrap_or(after);
            }
            names.push(name.to_owned());
            if !closed {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty(), "{open:?} left open");
        names
    }

    /// The page is well-formed, holds no script and nothing from anywhere else, and the plots that it should.
    #[test]
    fn page_stands_by_itself() {
        let page = samples::report().to_html();
        let names = elements(&page);
        for foreign in ["http:", "https:", "//", "url(", "@import", "src=", "href="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!names.iter().any(|name| ["script", "link", "img", "iframe", "object"].contains(&name.as_str())));
        for plot in ["Latency", "Deliveries per second", "Connections", "CPU", "Server memory", "Latency by percentile"]
        {
            assert!(page.contains(&format!("<figcaption>{plot}")), "{plot}");
        }
        assert!(page.contains("A &amp; B &lt;Processor&gt;") && page.contains("connections = 2000"), "{page}");
    }

    /// A run in which everything went wrong, and one that found nothing, make pages as well.
    #[test]
    fn ends_of_the_scale() {
        let mut bad = samples::report();
        bad.phases[1].counts.lost = 5;
        bad.phases[1].name = "<\"&'>".to_owned();
        bad.phases[1].worker_cpu_shares = vec![1.0];
        bad.faults = vec!["a <fault> & \u{1} more".to_owned()];
        bad.notes = vec!["no & note".to_owned()];
        let page = bad.to_html();
        elements(&page);
        assert!(page.contains("Not fine.") && page.contains("5 messages lost") && page.contains("bottleneck"));
        let mut nothing = samples::report();
        nothing.phases.clear();
        let page = nothing.to_html();
        elements(&page);
        assert!(!page.contains("<svg"));
    }
}
