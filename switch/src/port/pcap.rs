//! A port on capture files: receives the packets of one pcap stream and writes what is transmitted to another.
//!
//! Timestamps do not pace anything: packets are received as fast as they are asked for. A transmitted packet is
//! stamped with its position in nanoseconds, so that equal traffic gives equal files. For tests and offline runs;
//! it allocates and, on files, blocks.

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

use super::mem::MemPort;
use super::{Frame, FramePool, Frames, Port, PortError, Service};
use crate::limits::FRAME_LEN_MAX;

/// Longest packet the written file announces; above [`FRAME_LEN_MAX`], the customary value.
const SNAPLEN: u32 = 262_144;

/// A port on two pcap streams; see the module text.
pub struct PcapPort {
    /// `None` once it ended.
    input: Option<PcapReader<Box<dyn Read + Send>>>,
    output: PcapWriter<Box<dyn Write + Send>>,
    /// A packet that the pool had no frames for; tried again at the next call.
    waiting: Option<Vec<u8>>,
    written: u64,
    sent: u32,
    failure: Option<PcapError>,
}

impl PcapPort {
    /// A port that receives the packets of `input` and writes a pcap stream to `output`.
    ///
    /// # Errors
    /// `input` is no pcap stream, or the header of `output` could not be written.
    pub fn new(input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> Result<PcapPort, PcapError> {
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        Ok(PcapPort {
            input: Some(PcapReader::new(Box::new(input) as Box<dyn Read + Send>)?),
            output: PcapWriter::with_header(Box::new(output) as Box<dyn Write + Send>, header)?,
            waiting: None,
            written: 0,
            sent: 0,
            failure: None,
        })
    }

    /// The next packet of the input that is not empty and not longer than a frame may be.
    fn next_packet(&mut self) -> Option<Vec<u8>> {
        if let Some(packet) = self.waiting.take() {
            return Some(packet);
        }
        loop {
            match self.input.as_mut()?.next_packet() {
                Some(Ok(packet)) if packet.data.is_empty() || packet.data.len() > FRAME_LEN_MAX => {}
                Some(Ok(packet)) => return Some(packet.data.into_owned()),
                Some(Err(error)) => {
                    self.failure.get_or_insert(error);
                    self.input = None;
                }
                None => self.input = None,
            }
        }
    }

    fn write(&mut self, packet: &[u8]) {
        let stamp = Duration::from_nanos(self.written);
        self.written += 1;
        if let Err(error) = self.output.write_packet(&PcapPacket::new(stamp, packet.len() as u32, packet)) {
            self.failure.get_or_insert(error);
        }
    }
}

impl Port for PcapPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        while out.remaining_capacity() > 0 {
            let Some(packet) = self.next_packet() else { return };
            match MemPort::import(pool, &packet) {
                Some(frame) => out.push(frame),
                None => {
                    self.waiting = Some(packet);
                    return;
                }
            }
        }
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        for frame in frames.drain(..) {
            let packet: Vec<u8> = pool.region().segments(&frame).flatten().copied().collect();
            self.write(&packet);
            self.sent += 1;
            pool.free(frame);
        }
    }

    /// # Errors
    /// [`PortError::Io`] once, with the first failure to read or write since the last call.
    fn service(&mut self, _pool: &mut FramePool) -> Result<Service, PortError> {
        match self.failure.take() {
            Some(PcapError::IoError(error)) => Err(PortError::Io(error)),
            Some(error) => Err(PortError::Io(std::io::Error::other(error))),
            None => Ok(Service { completed: std::mem::take(&mut self.sent), ..Service::default() }),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        0
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::port::SharedPool;

    /// A stream that can be looked at while the port writes to it.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = PcapWriter::new(Vec::new()).unwrap();
        for packet in packets {
            writer.write_packet(&PcapPacket::new(Duration::ZERO, packet.len() as u32, packet)).unwrap();
        }
        writer.into_writer()
    }

    type Stamped = (Duration, Vec<u8>);

    fn reflect(input: Vec<u8>, frames: u32) -> (Vec<Stamped>, Result<(), PortError>) {
        let shared = SharedPool::heap(frames);
        let mut pool = FramePool::new(Arc::clone(&shared));
        let sink = Sink::default();
        let mut port = PcapPort::new(Cursor::new(input), sink.clone()).unwrap();
        let (mut frames_moving, mut end) = (Frames::new(), Ok(()));
        for _ in 0..100 {
            port.rx(&mut pool, &mut frames_moving);
            port.tx(&mut pool, &mut frames_moving);
            end = end.and(port.service(&mut pool).map(|_| ()));
        }
        assert!(Box::new(port).close().is_empty());
        assert_eq!(pool.local_len() + shared.free_estimate(), frames as usize);
        let bytes = sink.0.lock().unwrap().clone();
        let mut reader = PcapReader::new(Cursor::new(bytes)).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            packets.push((packet.timestamp, packet.data.into_owned()));
        }
        (packets, end)
    }

    #[test]
    fn packets_go_through_unchanged_and_are_stamped_by_position() {
        let packets: Vec<Vec<u8>> = [60usize, 1514, 9014, 14].iter().map(|&len| vec![len as u8; len]).collect();
        // Four frames: a jumbo packet takes three, so the burst is cut short and goes on.
        let (out, end) = reflect(capture(&packets), 4);
        end.unwrap();
        let expected: Vec<_> =
            packets.into_iter().enumerate().map(|(at, packet)| (Duration::from_nanos(at as u64), packet)).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_damaged_capture_ends_there_and_says_so() {
        let mut input = capture(&[vec![1; 60], vec![2; 60]]);
        input.truncate(input.len() - 10);
        let (out, end) = reflect(input, 8);
        assert_eq!(out.len(), 1);
        assert!(matches!(end, Err(PortError::Io(_))));
        assert!(PcapPort::new(Cursor::new(b"no capture".to_vec()), Vec::new()).is_err());
    }
}
