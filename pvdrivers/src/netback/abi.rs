//! The bytes of requests and responses. Xen public "io/netif.h".

/// Bytes of a transmit slot.
pub const TX_SLOT: usize = 12;
/// Bytes of a receive slot.
pub const RX_SLOT: usize = 8;
/// Slots of one packet that every back end takes (`XEN_NETIF_NR_SLOTS_MIN`).
pub const MAX_SLOTS: usize = 18;
/// Extra-info slots of one packet: one of each type.
pub const MAX_EXTRAS: usize = 5;
/// Bytes of the largest packet: sizes have 16 bits.
pub const MAX_PACKET: usize = 65_535;

/// Flags of a transmit request (`NETTXF_…`).
pub mod tx_flag {
    /// The checksum is to be filled in: only the pseudo-header's sum is there.
    pub const CSUM_BLANK: u16 = 1;
    /// The checksum is right.
    pub const DATA_VALIDATED: u16 = 2;
    /// The packet goes on in the next request.
    pub const MORE_DATA: u16 = 4;
    /// An extra-info slot follows.
    pub const EXTRA_INFO: u16 = 8;
}

/// Flags of a receive response (`NETRXF_…`).
pub mod rx_flag {
    /// The checksum is right.
    pub const DATA_VALIDATED: u16 = 1;
    /// Only the pseudo-header's sum is there.
    pub const CSUM_BLANK: u16 = 2;
    /// The packet goes on in the next response.
    pub const MORE_DATA: u16 = 4;
    /// An extra-info slot follows.
    pub const EXTRA_INFO: u16 = 8;
}

/// Status of a response (`XEN_NETIF_RSP_…`); sizes of received data are positive.
pub mod status {
    /// Dropped.
    pub const DROPPED: i16 = -2;
    /// Wrong.
    pub const ERROR: i16 = -1;
    /// Sent.
    pub const OKAY: i16 = 0;
    /// Answers an extra-info slot.
    pub const NULL: i16 = 1;
}

/// Types of extra info (`XEN_NETIF_EXTRA_TYPE_…`).
pub mod extra {
    /// Segmentation.
    pub const GSO: u8 = 1;
    /// Join a group.
    pub const MCAST_ADD: u8 = 2;
    /// Leave a group.
    pub const MCAST_DEL: u8 = 3;
    /// One more than the last type.
    pub const END: u8 = 6;
    /// Flag: another one follows.
    pub const MORE: u8 = 1;
}

/// A request to send (`netif_tx_request`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxRequest {
    /// The page.
    pub reference: u32,
    /// Where the data begins in it.
    pub offset: u16,
    /// [`tx_flag`].
    pub flags: u16,
    /// Comes back with the response.
    pub id: u16,
    /// Bytes: of the whole packet in its first request, of the piece in the others.
    pub size: u16,
}

impl TxRequest {
    /// From a slot.
    #[must_use]
    pub const fn decode(slot: &[u8; TX_SLOT]) -> TxRequest {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *slot;
        TxRequest {
            reference: u32::from_le_bytes([a, b, c, d]),
            offset: u16::from_le_bytes([e, f]),
            flags: u16::from_le_bytes([g, h]),
            id: u16::from_le_bytes([i, j]),
            size: u16::from_le_bytes([k, l]),
        }
    }

    /// To a slot.
    #[must_use]
    pub const fn encode(&self) -> [u8; TX_SLOT] {
        let [a, b, c, d] = self.reference.to_le_bytes();
        let [e, f] = self.offset.to_le_bytes();
        let [g, h] = self.flags.to_le_bytes();
        let [i, j] = self.id.to_le_bytes();
        let [k, l] = self.size.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// What became of a request to send (`netif_tx_response`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxResponse {
    /// The request's.
    pub id: u16,
    /// [`status`].
    pub status: i16,
}

impl TxResponse {
    /// From the first bytes of a slot.
    #[must_use]
    pub const fn decode(slot: &[u8; 4]) -> TxResponse {
        let [a, b, c, d] = *slot;
        TxResponse { id: u16::from_le_bytes([a, b]), status: i16::from_le_bytes([c, d]) }
    }

    /// To the first bytes of a slot.
    #[must_use]
    pub const fn encode(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.id.to_le_bytes(), self.status.to_le_bytes());
        [a, b, c, d]
    }
}

/// A page to receive into (`netif_rx_request`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxRequest {
    /// Comes back with the response.
    pub id: u16,
    /// The page.
    pub reference: u32,
}

impl RxRequest {
    /// From a slot.
    #[must_use]
    pub const fn decode(slot: &[u8; RX_SLOT]) -> RxRequest {
        let [a, b, _, _, c, d, e, f] = *slot;
        RxRequest { id: u16::from_le_bytes([a, b]), reference: u32::from_le_bytes([c, d, e, f]) }
    }

    /// To a slot.
    #[must_use]
    pub const fn encode(&self) -> [u8; RX_SLOT] {
        let ([a, b], [c, d, e, f]) = (self.id.to_le_bytes(), self.reference.to_le_bytes());
        [a, b, 0, 0, c, d, e, f]
    }
}

/// Data received (`netif_rx_response`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxResponse {
    /// The request's.
    pub id: u16,
    /// Where the data begins in the page.
    pub offset: u16,
    /// [`rx_flag`].
    pub flags: u16,
    /// Bytes in this page, or an error.
    pub status: i16,
}

impl RxResponse {
    /// From a slot.
    #[must_use]
    pub const fn decode(slot: &[u8; RX_SLOT]) -> RxResponse {
        let [a, b, c, d, e, f, g, h] = *slot;
        RxResponse {
            id: u16::from_le_bytes([a, b]),
            offset: u16::from_le_bytes([c, d]),
            flags: u16::from_le_bytes([e, f]),
            status: i16::from_le_bytes([g, h]),
        }
    }

    /// To a slot.
    #[must_use]
    pub const fn encode(&self) -> [u8; RX_SLOT] {
        let ([a, b], [c, d]) = (self.id.to_le_bytes(), self.offset.to_le_bytes());
        let ([e, f], [g, h]) = (self.flags.to_le_bytes(), self.status.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }
}

/// How a packet is to be cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Bytes of payload in a segment.
    pub size: u16,
    /// Over IPv6 rather than IPv4.
    pub ipv6: bool,
}

/// An extra-info slot (`netif_extra_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Segmentation.
    Gso(Gso),
    /// Join (true) or leave a group.
    Group([u8; 6], bool),
    /// Another type that there is, without meaning here.
    Other(u8),
}

impl Extra {
    /// From the first bytes of a slot: the info, and whether another one follows. `None` for a type
    /// that there is not, and for a segmentation that nobody does.
    #[must_use]
    pub fn decode(slot: &[u8; RX_SLOT]) -> Option<(Extra, bool)> {
        let [kind, flags, a, b, c, d, e, f] = *slot;
        let size = u16::from_le_bytes([a, b]);
        let info = match (kind, c) {
            (extra::GSO, 1) if size > 0 => Extra::Gso(Gso { size, ipv6: false }),
            (extra::GSO, 2) if size > 0 => Extra::Gso(Gso { size, ipv6: true }),
            (extra::MCAST_ADD, _) => Extra::Group([a, b, c, d, e, f], true),
            (extra::MCAST_DEL, _) => Extra::Group([a, b, c, d, e, f], false),
            (0 | extra::GSO | extra::END.., _) => return None,
            (other, _) => Extra::Other(other),
        };
        Some((info, flags & extra::MORE != 0))
    }

    /// To the first bytes of a slot.
    #[must_use]
    pub fn encode(&self, more: bool) -> [u8; RX_SLOT] {
        let flags = if more { extra::MORE } else { 0 };
        match *self {
            Extra::Gso(Gso { size, ipv6 }) => {
                let [a, b] = size.to_le_bytes();
                [extra::GSO, flags, a, b, 1 + u8::from(ipv6), 0, 0, 0]
            }
            Extra::Group([a, b, c, d, e, f], join) => {
                let kind = if join { extra::MCAST_ADD } else { extra::MCAST_DEL };
                [kind, flags, a, b, c, d, e, f]
            }
            Extra::Other(kind) => [kind, flags, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// The control ring's bytes (`xen_netif_ctrl_request`, `xen_netif_ctrl_response`).
pub mod control {
    /// Bytes of a slot: a request's; a response has 12.
    pub const SLOT: usize = 16;

    /// Types of requests (`XEN_NETIF_CTRL_TYPE_…`).
    #[allow(missing_docs, reason = "the header's own names")]
    pub mod kind {
        pub const GET_HASH_FLAGS: u16 = 1;
        pub const SET_HASH_FLAGS: u16 = 2;
        pub const SET_HASH_KEY: u16 = 3;
        pub const GET_HASH_MAPPING_SIZE: u16 = 4;
        pub const SET_HASH_MAPPING_SIZE: u16 = 5;
        pub const SET_HASH_MAPPING: u16 = 6;
        pub const SET_HASH_ALGORITHM: u16 = 7;
    }

    /// What is hashed (`XEN_NETIF_CTRL_HASH_TYPE_…`): addresses, or addresses and TCP's ports.
    #[allow(missing_docs, reason = "the header's own names")]
    pub mod hash_type {
        pub const IPV4: u32 = 1;
        pub const IPV4_TCP: u32 = 2;
        pub const IPV6: u32 = 4;
        pub const IPV6_TCP: u32 = 8;
        pub const ALL: u32 = 15;
    }

    /// What became of a request (`XEN_NETIF_CTRL_STATUS_…`).
    #[allow(missing_docs, reason = "the header's own names")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u32)]
    pub enum Status {
        Success = 0,
        NotSupported = 1,
        InvalidParameter = 2,
        BufferOverflow = 3,
    }

    /// A request.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Request {
        /// Comes back with the response.
        pub id: u16,
        /// [`kind`], or another.
        pub kind: u16,
        /// What the type says.
        pub data: [u32; 3],
    }

    impl Request {
        /// From a slot.
        #[must_use]
        pub const fn decode(slot: &[u8; SLOT]) -> Request {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *slot;
            Request {
                id: u16::from_le_bytes([a, b]),
                kind: u16::from_le_bytes([c, d]),
                data: [
                    u32::from_le_bytes([e, f, g, h]),
                    u32::from_le_bytes([i, j, k, l]),
                    u32::from_le_bytes([m, n, o, p]),
                ],
            }
        }

        /// To a slot.
        #[must_use]
        pub const fn encode(&self) -> [u8; SLOT] {
            let ([a, b], [c, d]) = (self.id.to_le_bytes(), self.kind.to_le_bytes());
            let [e, f, g, h] = self.data[0].to_le_bytes();
            let [i, j, k, l] = self.data[1].to_le_bytes();
            let [m, n, o, p] = self.data[2].to_le_bytes();
            [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
        }
    }

    /// A response.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Response {
        /// The request's.
        pub id: u16,
        /// The request's.
        pub kind: u16,
        /// [`Status`].
        pub status: u32,
        /// What the type says.
        pub data: u32,
    }

    impl Response {
        /// From the first bytes of a slot.
        #[must_use]
        pub const fn decode(slot: &[u8; 12]) -> Response {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *slot;
            Response {
                id: u16::from_le_bytes([a, b]),
                kind: u16::from_le_bytes([c, d]),
                status: u32::from_le_bytes([e, f, g, h]),
                data: u32::from_le_bytes([i, j, k, l]),
            }
        }

        /// To the first bytes of a slot.
        #[must_use]
        pub const fn encode(&self) -> [u8; 12] {
            let ([a, b], [c, d]) = (self.id.to_le_bytes(), self.kind.to_le_bytes());
            let ([e, f, g, h], [i, j, k, l]) = (self.status.to_le_bytes(), self.data.to_le_bytes());
            [a, b, c, d, e, f, g, h, i, j, k, l]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_laid_out_as_the_header_says() {
        let tx = TxRequest { reference: 0x0403_0201, offset: 0x0605, flags: 9, id: 7, size: 1514 };
        assert_eq!(tx.encode(), [1, 2, 3, 4, 5, 6, 9, 0, 7, 0, 0xea, 5]);
        assert_eq!(TxRequest::decode(&tx.encode()), tx);
        let response = TxResponse { id: 0x0201, status: status::DROPPED };
        assert_eq!(response.encode(), [1, 2, 0xfe, 0xff]);
        assert_eq!(TxResponse::decode(&response.encode()), response);
        let rx = RxRequest { id: 0x0201, reference: 0x0807_0605 };
        assert_eq!(rx.encode(), [1, 2, 0, 0, 5, 6, 7, 8]);
        assert_eq!(RxRequest::decode(&rx.encode()), rx);
        let response = RxResponse { id: 1, offset: 2, flags: 3, status: -1 };
        assert_eq!(response.encode(), [1, 0, 2, 0, 3, 0, 0xff, 0xff]);
        assert_eq!(RxResponse::decode(&response.encode()), response);
    }

    #[test]
    fn extra_info_goes_both_ways_and_unknown_types_are_refused() {
        for info in [
            Extra::Gso(Gso { size: 1448, ipv6: false }),
            Extra::Gso(Gso { size: 1428, ipv6: true }),
            Extra::Group([1, 0, 0x5e, 0, 0, 1], true),
            Extra::Group([1, 0, 0x5e, 0, 0, 1], false),
            Extra::Other(4),
        ] {
            assert_eq!(Extra::decode(&info.encode(true)), Some((info, true)));
        }
        for bad in [[0, 0, 1, 0, 1, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]] {
            assert_eq!(Extra::decode(&bad), None);
        }
        assert_eq!(Extra::decode(&[1, 0, 5, 0, 3, 0, 0, 0]), None, "a segmentation of no protocol");
    }
}
