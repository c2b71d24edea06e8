//! What a connection asks for.

/// Kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// New documents under keys of the generator.
    Insert,
    /// Replacing documents, keys uniformly.
    Update,
    /// Local reads.
    Read,
    /// Linearizable reads.
    Linearizable,
    /// Half reads, half updates.
    Mixed,
}

impl Workload {
    /// Whether an absent document is a fine answer.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Insert | Self::Update)
    }
}

/// The requests of one connection.
pub struct Requests {
    path: String,
    workload: Workload,
    value: String,
    keys: u64,
    connection: u32,
    count: u64,
    random: u64,
}

impl Requests {
    /// Requests for connection `connection`, whose keys are its own when it inserts.
    pub fn new(database: &str, workload: Workload, value_bytes: u32, keys: u64, connection: u32) -> Self {
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        Self {
            path: format!("/v1/databases/{database}/collections/bench/documents"),
            workload,
            value: "x".repeat(value_bytes as usize),
            keys: keys.max(1),
            connection,
            count: 0,
            random: (u64::from(connection) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
                ^ u64::try_from(seconds).unwrap_or(1),
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The next request, as bytes for the wire.
    pub fn next(&mut self) -> Vec<u8> {
        self.count += 1;
        let random = self.random();
        let key = random % self.keys;
        match self.workload {
            Workload::Insert => self.put(&format!("i-{:016x}-{}-{}", random, self.connection, self.count)),
            Workload::Update => self.put(&format!("u-{key}")),
            Workload::Read => self.get(key, ""),
            Workload::Linearizable => self.get(key, "?consistency=linearizable"),
            Workload::Mixed if random & 1 << 40 == 0 => self.get(key, ""),
            Workload::Mixed => self.put(&format!("u-{key}")),
        }
    }

    fn put(&self, key: &str) -> Vec<u8> {
        let body = format!("{{\"value\":\"{}\"}}", self.value);
        let (path, length) = (&self.path, body.len());
        format!("PUT {path}/{key} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn get(&self, key: u64, query: &str) -> Vec<u8> {
        format!("GET {}/u-{key}{query} HTTP/1.1\r\nHost: bench\r\n\r\n", self.path).into_bytes()
    }
}
