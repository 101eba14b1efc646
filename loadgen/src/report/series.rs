//! A phase over time: one row a second.
//!
//! Each worker keeps a [`Timeline`] of what it sends and gets; the coordinator keeps [`Gauges`] of what can only be seen
//! from outside. Together they make the [`Series`] of a report. Rows have a fixed size, are made once a second, and are
//! merged in pairs when there are too many, so that a run of a day needs no more memory than one of an hour.

use serde::{Deserialize, Serialize};

/// Rows above which two are made one.
const ROWS_MAX: usize = 4096;

const SECOND_NS: u64 = 1_000_000_000;

/// Buckets of a row's latencies: 16 for each doubling, from 1 µs to two minutes, so percentiles of a single second are
/// right within 6.25 %. The phase's own histogram has three digits.
const BUCKETS: usize = 384;

/// What happened in one row of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Messages that were sent.
    pub published_messages: u64,
    /// Messages that arrived, whole, each counted once per subscriber.
    pub delivered_messages: u64,
    /// Connections that stood when the row ended.
    pub connections: u32,
    /// Median latency of what arrived, if anything did, in nanoseconds.
    pub latency_p50_ns: Option<u64>,
    /// 99th percentile of the latency, in nanoseconds.
    pub latency_p99_ns: Option<u64>,
    /// Longest latency, in nanoseconds.
    pub latency_max_ns: Option<u64>,
    /// CPU time that the load generator used, in nanoseconds.
    pub generator_cpu_ns: u64,
    /// CPU time that the server used, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
    /// The server's private memory when the row ended, in bytes.
    pub server_resident_bytes: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Columns", into = "Columns")]
pub struct Series {
    /// Length of a row in seconds; the last one may be shorter.
    pub row_seconds: u32,
    /// The rows, the first at the start of the phase.
    pub rows: Vec<Row>,
}

impl Default for Series {
    fn default() -> Series {
        Series { row_seconds: 1, rows: Vec::new() }
    }
}

/// A series as it is stored: one list a column, because that is short and what programs that plot want.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Columns {
    row_seconds: u32,
    published_messages: Vec<u64>,
    delivered_messages: Vec<u64>,
    connections: Vec<u32>,
    latency_p50_ns: Vec<Option<u64>>,
    latency_p99_ns: Vec<Option<u64>>,
    latency_max_ns: Vec<Option<u64>>,
    generator_cpu_ns: Vec<u64>,
    server_cpu_ns: Vec<Option<u64>>,
    server_resident_bytes: Vec<Option<u64>>,
}

impl From<Series> for Columns {
    fn from(series: Series) -> Columns {
        let mut columns = Columns { row_seconds: series.row_seconds, ..Columns::default() };
        for row in series.rows {
            columns.published_messages.push(row.published_messages);
            columns.delivered_messages.push(row.delivered_messages);
            columns.connections.push(row.connections);
            columns.latency_p50_ns.push(row.latency_p50_ns);
            columns.latency_p99_ns.push(row.latency_p99_ns);
            columns.latency_max_ns.push(row.latency_max_ns);
            columns.generator_cpu_ns.push(row.generator_cpu_ns);
            columns.server_cpu_ns.push(row.server_cpu_ns);
            columns.server_resident_bytes.push(row.server_resident_bytes);
        }
        columns
    }
}

impl TryFrom<Columns> for Series {
    type Error = String;

    fn try_from(columns: Columns) -> Result<Series, String> {
        let len = columns.published_messages.len();
        let lens = [
            columns.delivered_messages.len(),
            columns.connections.len(),
            columns.latency_p50_ns.len(),
            columns.latency_p99_ns.len(),
            columns.latency_max_ns.len(),
            columns.generator_cpu_ns.len(),
            columns.server_cpu_ns.len(),
            columns.server_resident_bytes.len(),
        ];
        if lens.iter().any(|other| *other != len) {
            return Err(format!("the columns of a series differ in length: {len} and {lens:?}"));
        }
        let rows = (0..len).map(|at| Row {
            published_messages: columns.published_messages[at],
            delivered_messages: columns.delivered_messages[at],
            connections: columns.connections[at],
            latency_p50_ns: columns.latency_p50_ns[at],
            latency_p99_ns: columns.latency_p99_ns[at],
            latency_max_ns: columns.latency_max_ns[at],
            generator_cpu_ns: columns.generator_cpu_ns[at],
            server_cpu_ns: columns.server_cpu_ns[at],
            server_resident_bytes: columns.server_resident_bytes[at],
        });
        Ok(Series { row_seconds: columns.row_seconds, rows: rows.collect() })
    }
}

impl Series {
    /// Puts together what workers and coordinator have seen of a phase.
    #[must_use]
    pub fn new(mut timeline: Timeline, mut gauges: Gauges) -> Series {
        while timeline.row_seconds < gauges.row_seconds {
            timeline.halve();
        }
        while gauges.row_seconds < timeline.row_seconds {
            gauges.halve();
        }
        let mut rows = Vec::new();
        for at in 0..timeline.tallies.len().max(gauges.rows.len()) {
            let gauge = gauges.rows.get(at).or(gauges.rows.last());
            let mut row = gauge.copied().unwrap_or_default();
            if at >= gauges.rows.len() {
                // After the last look nothing is known of CPU time; what stood then is taken to stand still.
                (row.generator_cpu_ns, row.server_cpu_ns) = (0, row.server_cpu_ns.map(|_| 0));
            }
            if let Some(tally) = timeline.tallies.get(at) {
                row.published_messages = tally.published;
                row.delivered_messages = tally.delivered;
                if tally.delivered > 0 {
                    row.latency_p50_ns = Some(tally.quantile_ns(0.5));
                    row.latency_p99_ns = Some(tally.quantile_ns(0.99));
                    row.latency_max_ns = Some(tally.max_ns);
                }
            }
            rows.push(row);
        }
        Series { row_seconds: timeline.row_seconds, rows }
    }
}

/// What a worker saw in one row.
#[derive(Clone, Debug)]
struct Tally {
    published: u64,
    delivered: u64,
    max_ns: u64,
    latencies: [u32; BUCKETS],
}

impl Tally {
    fn new() -> Tally {
        Tally { published: 0, delivered: 0, max_ns: 0, latencies: [0; BUCKETS] }
    }

    fn add(&mut self, other: &Tally) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.max_ns = self.max_ns.max(other.max_ns);
        for (sum, count) in self.latencies.iter_mut().zip(&other.latencies) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// Returns the upper end of the bucket that holds a quantile, but no more than the longest latency.
    fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = ((self.delivered as f64 * quantile).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, count) in self.latencies.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                return bucket_end_ns(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// Returns the bucket of a latency: below 16 µs one for each, then 16 for each doubling. A microsecond is 1,024 ns here.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let us = ns >> 10;
    if us < 16 {
        return us as usize;
    }
    let exponent = us.ilog2() as usize;
    let bucket = (exponent - 3) * 16 + (us >> (exponent - 4) & 15) as usize;
    bucket.min(BUCKETS - 1)
}

/// Returns the longest latency of a bucket.
fn bucket_end_ns(bucket: usize) -> u64 {
    let us_after = match bucket + 1 {
        next @ 0..=16 => next as u64,
        next => (16 + (next % 16) as u64) << (next / 16 - 1),
    };
    (us_after << 10) - 1
}

/// What one worker sent and got, by time. Nothing is allocated per message: once a second a row of 1.5 KB is.
#[derive(Clone, Debug)]
pub struct Timeline {
    start_ns: u64,
    row_seconds: u32,
    /// The row that is being filled, and when it began and ends.
    current: usize,
    begin_ns: u64,
    end_ns: u64,
    tallies: Vec<Tally>,
}

impl Timeline {
    /// Makes one that begins at a time.
    #[must_use]
    pub fn new(start_ns: u64) -> Timeline {
        // The first look finds the row.
        Timeline { start_ns, row_seconds: 1, current: 0, begin_ns: 0, end_ns: 0, tallies: Vec::new() }
    }

    /// Takes note of messages that were sent.
    pub fn published(&mut self, now_ns: u64, messages: u64) {
        self.tally(now_ns).published += messages;
    }

    /// Takes note of a message that arrived.
    #[inline]
    pub fn delivered(&mut self, now_ns: u64, latency_ns: u64) {
        let tally = self.tally(now_ns);
        tally.delivered += 1;
        tally.max_ns = tally.max_ns.max(latency_ns);
        let count = &mut tally.latencies[bucket_of(latency_ns)];
        *count = count.saturating_add(1);
    }

    /// Adds another worker's, of the same phase.
    pub fn add(&mut self, other: &Timeline) {
        let mut other = other.clone();
        while self.row_seconds < other.row_seconds {
            self.halve();
        }
        while other.row_seconds < self.row_seconds {
            other.halve();
        }
        for (at, tally) in other.tallies.into_iter().enumerate() {
            match self.tallies.get_mut(at) {
                Some(sum) => sum.add(&tally),
                None => self.tallies.push(tally),
            }
        }
        self.end_ns = 0;
    }

    #[inline]
    fn tally(&mut self, now_ns: u64) -> &mut Tally {
        if now_ns < self.begin_ns || now_ns >= self.end_ns {
            self.turn_to(now_ns);
        }
        &mut self.tallies[self.current]
    }

    #[cold]
    fn turn_to(&mut self, now_ns: u64) {
        loop {
            let row_ns = u64::from(self.row_seconds) * SECOND_NS;
            let row = now_ns.saturating_sub(self.start_ns) / row_ns;
            if row >= ROWS_MAX as u64 {
                self.halve();
                continue;
            }
            self.current = row as usize;
            self.begin_ns = if row == 0 { 0 } else { self.start_ns + row * row_ns };
            self.end_ns = self.start_ns + (row + 1) * row_ns;
            break;
        }
        while self.tallies.len() <= self.current {
            self.tallies.push(Tally::new());
        }
    }

    /// Makes two rows one.
    fn halve(&mut self) {
        self.row_seconds *= 2;
        let mut halved: Vec<Tally> = Vec::new();
        for (at, tally) in self.tallies.drain(..).enumerate() {
            match halved.last_mut() {
                Some(first) if at % 2 == 1 => first.add(&tally),
                _ => halved.push(tally),
            }
        }
        self.tallies = halved;
        self.end_ns = 0;
    }
}

/// What can be seen from outside at a moment; CPU times count from the start of their process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauge {
    /// Connections that stand.
    pub connections: u32,
    /// CPU time of the load generator, in nanoseconds.
    pub generator_cpu_ns: u64,
    /// CPU time of the server, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
    /// Private memory of the server, in bytes.
    pub server_resident_bytes: Option<u64>,
}

/// What the coordinator saw, by time.
#[derive(Clone, Debug)]
pub struct Gauges {
    start_ns: u64,
    row_seconds: u32,
    last: Gauge,
    rows: Vec<Row>,
}

impl Gauges {
    /// Makes one that begins at a time, with what was to be seen then.
    #[must_use]
    pub fn new(start_ns: u64, first: Gauge) -> Gauges {
        Gauges { start_ns, row_seconds: 1, last: first, rows: Vec::new() }
    }

    /// Says whether a row is over, so that [`Gauges::look`] should be called.
    #[must_use]
    pub fn due(&self, now_ns: u64) -> bool {
        let row_ns = u64::from(self.row_seconds) * SECOND_NS;
        now_ns.saturating_sub(self.start_ns) >= (self.rows.len() as u64 + 1) * row_ns
    }

    /// Takes note of what is to be seen; to be called when a row is [due](Gauges::due), and at the end of the phase.
    pub fn look(&mut self, now_ns: u64, gauge: Gauge) {
        let since = |now: u64, last: u64| now.saturating_sub(last);
        let mut row = Row {
            connections: gauge.connections,
            generator_cpu_ns: since(gauge.generator_cpu_ns, self.last.generator_cpu_ns),
            server_cpu_ns: gauge.server_cpu_ns.zip(self.last.server_cpu_ns).map(|(now, last)| since(now, last)),
            server_resident_bytes: gauge.server_resident_bytes,
            ..Row::default()
        };
        self.last = gauge;
        let row_ns = u64::from(self.row_seconds) * SECOND_NS;
        let over = (now_ns.saturating_sub(self.start_ns) / row_ns) as usize;
        // A coordinator that was held up spreads what it found over the rows it missed.
        let missed = over.saturating_sub(self.rows.len()).clamp(1, ROWS_MAX) as u64;
        row.generator_cpu_ns /= missed;
        row.server_cpu_ns = row.server_cpu_ns.map(|ns| ns / missed);
        self.rows.extend(std::iter::repeat_n(row, missed as usize));
        while self.rows.len() >= ROWS_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.row_seconds *= 2;
        let pairs = self.rows.chunks(2).map(|pair| Row {
            generator_cpu_ns: pair.iter().map(|row| row.generator_cpu_ns).sum(),
            server_cpu_ns: pair.iter().map(|row| row.server_cpu_ns).sum(),
            ..pair[pair.len() - 1]
        });
        self.rows = pairs.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every latency lies in its bucket, and buckets are no wider than 6.25 % (or 1 µs).
    #[test]
    fn buckets_hold_what_they_say() {
        let mut ns = 0u64;
        while ns < 120 * SECOND_NS {
            let bucket = bucket_of(ns);
            let start_ns = if bucket == 0 { 0 } else { bucket_end_ns(bucket - 1) + 1 };
            let end_ns = bucket_end_ns(bucket);
            assert!(start_ns <= ns && ns <= end_ns, "{ns} in {start_ns}..={end_ns}");
            assert!(end_ns - start_ns < 1024.max(start_ns / 16 + 1), "{start_ns}..={end_ns}");
            ns += 1 + ns / 97;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    /// Messages are counted in the second they came, over all workers, and percentiles are over all workers too.
    #[test]
    fn rows_add_up_over_workers() {
        let (mut one, mut other) = (Timeline::new(SECOND_NS), Timeline::new(SECOND_NS));
        one.published(SECOND_NS / 2, 3);
        for _ in 0..98 {
            one.delivered(SECOND_NS * 2 - 1, 20_000);
        }
        other.delivered(SECOND_NS * 2 - 1, 70_000_000);
        other.delivered(SECOND_NS * 2 - 1, 90_000_000);
        other.delivered(SECOND_NS * 4, 5_000);
        one.add(&other);
        let mut gauges = Gauges::new(SECOND_NS, Gauge { generator_cpu_ns: 7, ..Gauge::default() });
        assert!(!gauges.due(SECOND_NS * 2 - 1) && gauges.due(SECOND_NS * 2));
        gauges.look(SECOND_NS * 2, Gauge { generator_cpu_ns: 10, connections: 5, ..Gauge::default() });
        let Series { row_seconds, rows } = Series::new(one, gauges);
        assert_eq!((row_seconds, rows.len()), (1, 4));
        assert_eq!((rows[0].published_messages, rows[0].delivered_messages), (3, 100));
        let near = |ns: Option<u64>, exact: u64| ns.is_some_and(|ns| ns >= exact && ns <= exact + exact / 16);
        assert!(near(rows[0].latency_p50_ns, 20_000) && near(rows[0].latency_p99_ns, 70_000_000), "{rows:?}");
        assert_eq!(rows[0].latency_max_ns, Some(90_000_000));
        assert_eq!((rows[0].generator_cpu_ns, rows[0].connections), (3, 5));
        assert_eq!((rows[1].latency_p50_ns, rows[1].connections), (None, 5), "a second without deliveries has none");
        assert_eq!((rows[3].delivered_messages, rows[3].latency_p99_ns), (1, Some(5_000)));
    }

    /// A day fits: rows become longer, and nothing that was counted is lost, even when a worker had nothing to do at
    /// the end.
    #[test]
    fn a_day_fits() {
        let (mut busy, mut early) = (Timeline::new(0), Timeline::new(0));
        let mut gauges = Gauges::new(0, Gauge::default());
        early.published(5, 1);
        let seconds = 86_400;
        for second in 0..seconds {
            busy.published(second * SECOND_NS + 1, 1);
            let gauge = Gauge { server_cpu_ns: Some(second + 1), ..Gauge::default() };
            if gauges.due((second + 1) * SECOND_NS) {
                gauges.look((second + 1) * SECOND_NS, gauge);
            }
        }
        early.add(&busy);
        let series = Series::new(early, gauges);
        assert!(series.rows.len() < ROWS_MAX && series.row_seconds == 32, "{} rows", series.rows.len());
        assert_eq!(series.rows.iter().map(|row| row.published_messages).sum::<u64>(), seconds + 1);
        assert_eq!(series.rows.iter().filter(|row| row.published_messages == 32).count(), seconds as usize / 32 - 1);
    }

    /// A coordinator that was held up for three seconds tells them all, and the CPU time only once.
    #[test]
    fn missed_rows_are_filled() {
        let mut gauges = Gauges::new(0, Gauge { server_cpu_ns: Some(100), ..Gauge::default() });
        gauges.look(3 * SECOND_NS, Gauge { server_cpu_ns: Some(400), connections: 9, ..Gauge::default() });
        assert!(!gauges.due(3 * SECOND_NS + 5) && gauges.due(4 * SECOND_NS));
        let rows = Series::new(Timeline::new(0), gauges).rows;
        assert_eq!(rows.iter().map(|row| row.server_cpu_ns).collect::<Vec<_>>(), [Some(100); 3]);
        assert_eq!(rows[2].connections, 9);
    }

    /// A stored series is read back equal; one with a value missing is refused.
    #[test]
    fn series_round_trip() {
        let row = Row { published_messages: 4, latency_p99_ns: Some(u64::MAX), ..Row::default() };
        let series = Series { row_seconds: 2, rows: vec![row, Row::default()] };
        let text = serde_json::to_string(&series).unwrap();
        assert_eq!(serde_json::from_str::<Series>(&text).unwrap(), series);
        let cut = text.replacen("[4,0]", "[4]", 1);
        assert!(serde_json::from_str::<Series>(&cut).unwrap_err().to_string().contains("differ in length"));
    }
}
