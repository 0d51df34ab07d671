"""What a running API consists of, as its routes see it."""

from dataclasses import dataclass

from services.api.auth.verifier import TokenVerifier
from services.api.exchange import Exchange
from services.api.handlers.accounts import AccountHandlers
from services.api.handlers.admin import StreamHandlers, SyncHandlers
from services.api.handlers.changes import ChangeHandlers
from services.api.handlers.dead_letters import DeadLetterHandlers
from services.api.handlers.documents import DocumentHandlers
from services.api.handlers.health import HealthHandlers
from services.api.handlers.lead_batches import LeadBatchHandlers
from services.api.handlers.lead_changes import LeadChangeHandlers
from services.api.handlers.lead_history import LeadHistoryHandlers
from services.api.handlers.lead_import import LeadImportHandlers
from services.api.handlers.lead_list import LeadExportHandlers, LeadListHandlers
from services.api.handlers.leads import LeadHandlers
from services.api.handlers.operations import OperationHandlers
from services.api.handlers.replays import ReplayHandlers
from services.api.handlers.summaries import SummaryHandlers
from services.api.server.limits import CallLimits
from shared.streams.change_feed import ChangeFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What answers operators."""

    streams: StreamHandlers
    dead_letters: DeadLetterHandlers
    replays: ReplayHandlers
    syncs: SyncHandlers


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What answers requests."""

    verifier: TokenVerifier
    limits: CallLimits | None
    exchange: Exchange
    feed: ChangeFeed
    accounts: AccountHandlers
    leads: LeadHandlers
    lead_changes: LeadChangeHandlers
    lead_batches: LeadBatchHandlers
    lead_imports: LeadImportHandlers
    lists: LeadListHandlers
    exports: LeadExportHandlers
    histories: LeadHistoryHandlers
    changes: ChangeHandlers
    summaries: SummaryHandlers
    operations: OperationHandlers
    health: HealthHandlers
    documents: DocumentHandlers
    admin: Administration
