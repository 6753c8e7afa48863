//! `palo_alto`: PAN-OS syslog, comma-separated, 9.1 to 11.x.
//!
//! Column order and variable names: PAN-OS Administrator's Guide, "Syslog Field Descriptions" (TRAFFIC,
//! THREAT, SYSTEM, CONFIG, GLOBALPROTECT). Newer versions append columns, so a short line is an old version,
//! not a mistake. Quoted columns hold commas, and `""` for a quote.
//!
//! Native fields are the documented variable names (`src`, `dport`, `threatid`). `threatid` reads
//! `Name(12345)`; `misc` is the URL or file name of a THREAT.
//!
//! A line whose type is none of the five keeps the seven leading columns and is `Truncated`; a line with
//! fewer than seven columns is `Malformed`.

use super::{Decoder, DecoderKind, MessageDecoder, Wanted, with_envelope};
use crate::event::{Flaw, Kind, Row, SlotId, Span};
use crate::scan;

pub(super) struct PaloAlto;

impl DecoderKind for PaloAlto {
    fn name(&self) -> &'static str {
        "palo_alto"
    }

    fn sample(&self) -> &'static str {
        "<14>1 2026-11-21T08:00:00.123Z PA-FW-01 - - - - 1,2026/11/21 08:00:00,012801010010,TRAFFIC,end,2561,\
         2026/11/21 08:00:00,10.1.2.3,93.184.216.34,203.0.113.7,93.184.216.34,Allow-Outbound-Web,corp\\asmith1,,ssl,vsys1,\
         trust,untrust,ethernet1/1,ethernet1/9,siem-fwd,2026/11/21 08:00:00,31337,1,52011,443,40122,443,0x400053,tcp,allow,\
         5200,1200,4000,12,2026/11/21 08:00:00,30,low-risk,,7000000001,0x8000000000000000,10.0.0.0-10.255.255.255,US,,6,6,tcp-fin"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/palo_alto.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        let mut names: Vec<_> = LAYOUTS.iter().flat_map(|layout| layout.columns.split(',')).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        // The type is the fourth column: it stands early, behind the serial number.
        let head = &frame[..frame.len().min(256)];
        let has = |layout: &Layout| memchr::memmem::find(head, layout.marker.as_bytes()).is_some();
        LAYOUTS.iter().find(|layout| has(layout)).map(|layout| layout.why)
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let layouts = LAYOUTS.iter().map(|layout| Columns::new(layout.columns, &wanted)).collect();
        let head = Columns::new(HEAD, &wanted);
        with_envelope(&wanted, Message { layouts, head })
    }
}

struct Layout {
    kind: &'static [u8],
    marker: &'static str,
    why: &'static str,
    columns: &'static str,
}

const HEAD: &str = ",receive_time,serial,type,subtype,,time_generated";

static LAYOUTS: &[Layout] = &[
    Layout {
        kind: b"TRAFFIC",
        marker: ",TRAFFIC,",
        why: "a comma-separated PAN-OS line whose type is TRAFFIC",
        columns: ",receive_time,serial,type,subtype,,time_generated,src,dst,natsrc,natdst,rule,srcuser,dstuser,app,vsys,from,to,\
                  inbound_if,outbound_if,logset,,sessionid,repeatcnt,sport,dport,natsport,natdport,flags,proto,action,bytes,bytes_sent,\
                  bytes_received,packets,start,elapsed,category,,seqno,actionflags,srcloc,dstloc,,pkts_sent,pkts_received,\
                  session_end_reason,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,\
                  action_source,src_uuid,dst_uuid,tunnelid,monitortag,parent_session_id,parent_start_time,tunnel,assoc_id,chunks,\
                  chunks_sent,chunks_received,rule_uuid,http2_connection,link_change_count,policy_id,link_switches,sdwan_cluster,\
                  sdwan_device_type,sdwan_cluster_type,sdwan_site,dynusergroup_name,xff_ip,src_category,src_profile,src_model,\
                  src_vendor,src_osfamily,src_osversion,src_host,src_mac,dst_category,dst_profile,dst_model,dst_vendor,dst_osfamily,\
                  dst_osversion,dst_host,dst_mac,container_id,pod_namespace,pod_name,src_edl,dst_edl,hostid,user_device_serial,src_dag,\
                  dst_dag,session_owner,high_res_timestamp,nssai_sst,nssai_sd,subcategory_of_app,category_of_app,technology_of_app,\
                  risk_of_app,characteristic_of_app,container_of_app,tunneled_app,is_saas_of_app,sanctioned_state_of_app,offloaded",
    },
    Layout {
        kind: b"THREAT",
        marker: ",THREAT,",
        why: "a comma-separated PAN-OS line whose type is THREAT",
        columns: ",receive_time,serial,type,subtype,,time_generated,src,dst,natsrc,natdst,rule,srcuser,dstuser,app,vsys,from,to,\
                  inbound_if,outbound_if,logset,,sessionid,repeatcnt,sport,dport,natsport,natdport,flags,proto,action,misc,threatid,\
                  category,severity,direction,seqno,actionflags,srcloc,dstloc,,contenttype,pcap_id,filedigest,cloud,url_idx,user_agent,\
                  filetype,xff,referer,sender,subject,recipient,reportid,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,\
                  dg_hier_level_4,vsys_name,device_name,,src_uuid,dst_uuid,http_method,tunnelid,monitortag,parent_session_id,\
                  parent_start_time,tunnel,thr_category,contentver,,assoc_id,ppid,http_headers,url_category_list,rule_uuid,\
                  http2_connection,dynusergroup_name,xff_ip,src_category,src_profile,src_model,src_vendor,src_osfamily,src_osversion,\
                  src_host,src_mac,dst_category,dst_profile,dst_model,dst_vendor,dst_osfamily,dst_osversion,dst_host,dst_mac,\
                  container_id,pod_namespace,pod_name,src_edl,dst_edl,hostid,user_device_serial,domain_edl,src_dag,dst_dag,partial_hash,\
                  high_res_timestamp,reason,justification,nssai_sst,subcategory_of_app,category_of_app,technology_of_app,risk_of_app,\
                  characteristic_of_app,container_of_app,tunneled_app,is_saas_of_app,sanctioned_state_of_app",
    },
    Layout {
        kind: b"SYSTEM",
        marker: ",SYSTEM,",
        why: "a comma-separated PAN-OS line whose type is SYSTEM",
        columns: ",receive_time,serial,type,subtype,,time_generated,vsys,eventid,object,,,module,severity,opaque,seqno,actionflags,\
                  dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,,,high_res_timestamp",
    },
    Layout {
        kind: b"CONFIG",
        marker: ",CONFIG,",
        why: "a comma-separated PAN-OS line whose type is CONFIG",
        columns: ",receive_time,serial,type,subtype,,time_generated,host,vsys,cmd,admin,client,result,path,before_change_detail,\
                  after_change_detail,seqno,actionflags,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,\
                  device_name,dg_id,comment,,high_res_timestamp",
    },
    Layout {
        kind: b"GLOBALPROTECT",
        marker: ",GLOBALPROTECT,",
        why: "a comma-separated PAN-OS line whose type is GLOBALPROTECT",
        columns: ",receive_time,serial,type,subtype,,time_generated,vsys,eventid,stage,auth_method,tunnel_type,srcuser,srcregion,\
                  machinename,public_ip,public_ipv6,private_ip,private_ipv6,hostid,serialnumber,client_ver,client_os,client_os_ver,\
                  repeatcnt,reason,error,opaque,status,location,login_duration,connect_method,error_code,portal,seqno,actionflags,\
                  high_res_timestamp,selection_type,response_time,priority,attempted_gateways,gateway,dg_hier_level_1,\
                  dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,vsys_id",
    },
];

/// Columns before the type decides the layout.
const HEAD_COLUMNS: usize = 7;

/// Column index to slot, up to the last wanted column.
struct Columns(Vec<Option<SlotId>>);

impl Columns {
    fn new(columns: &str, wanted: &Wanted) -> Self {
        let mut slots: Vec<_> = columns.split(',').map(|name| wanted.slot(name).filter(|_| !name.is_empty())).collect();
        let used = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        slots.truncate(used);
        Self(slots)
    }
}

struct Message {
    layouts: Vec<Columns>,
    head: Columns,
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let (start, end) = (message.start as usize, message.end as usize);
        let mut column = 0;
        let mut from = start;
        let mut quoted = false;
        let mut columns = &self.head;
        let mut flaw = None;
        scan::for_each_of(bytes, start, end, b',', b'"', |at| {
            if bytes[at] == b'"' {
                quoted = !quoted;
                return true;
            }
            if quoted {
                return true;
            }
            if column == 3 {
                match LAYOUTS.iter().position(|layout| layout.kind == &bytes[from..at]) {
                    Some(index) => columns = &self.layouts[index],
                    None => flaw = Some(Flaw::Truncated),
                }
                // The columns in front of the type are the same in every layout.
            }
            if let Some(Some(slot)) = columns.0.get(column) {
                set(row, *slot, from, at);
            }
            column += 1;
            from = at + 1;
            column < columns.0.len().max(HEAD_COLUMNS)
        });
        if from <= end
            && let Some(Some(slot)) = columns.0.get(column)
        {
            set(row, *slot, from, end);
        }
        match flaw {
            _ if column + 1 < HEAD_COLUMNS => Err(Flaw::Malformed),
            Some(flaw) => Err(flaw),
            None if quoted => Err(Flaw::Truncated),
            None => Ok(()),
        }
    }
}

/// An empty column is a missing field; quotes around a column go, `""` inside becomes one.
fn set(row: &mut Row<'_>, slot: SlotId, from: usize, to: usize) {
    let text = &row.bytes()[from..to];
    match text {
        [] => {}
        [b'"', inner @ .., b'"'] if memchr::memchr(b'"', inner).is_some() => row.set_written(slot, Kind::Text, |out| {
            let mut previous = 0;
            for byte in inner {
                if *byte != b'"' || previous != b'"' {
                    out.push(*byte);
                    previous = *byte;
                } else {
                    previous = 0;
                }
            }
        }),
        [b'"', b'"'] => {}
        [b'"', .., b'"'] => row.set_text(slot, Span::new(from + 1, to - 1)),
        _ => row.set_text(slot, Span::new(from, to)),
    }
}
