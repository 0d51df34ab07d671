"""One module for each resource: its endpoints, what they read and answer, and their methods.

A method raises `Problem` for a request that it refuses, and `UnavailableError` or `TimeoutError`
when something that it needs is down: the gateway answers these.
"""

from services.api.handlers.accounts import AccountHandlers
from services.api.handlers.admin.dead_letters import DeadLetterHandlers
from services.api.handlers.admin.doctor import DoctorHandlers
from services.api.handlers.admin.model import ModelHandlers
from services.api.handlers.admin.replays import ReplayHandlers
from services.api.handlers.admin.streams import StreamHandlers
from services.api.handlers.admin.syncs import SyncHandlers
from services.api.handlers.changes import ChangeHandlers
from services.api.handlers.documents import DocumentHandlers
from services.api.handlers.health import HealthHandlers
from services.api.handlers.lead_batches import LeadBatchHandlers
from services.api.handlers.lead_history import LeadHistoryHandlers
from services.api.handlers.lead_import import LeadImportHandlers
from services.api.handlers.lead_list import LeadExportHandlers, LeadListHandlers
from services.api.handlers.lead_writes import LeadWriteHandlers
from services.api.handlers.leads import LeadHandlers
from services.api.handlers.operations import OperationHandlers
from services.api.handlers.summaries import SummaryHandlers
from services.api.web.endpoint import declared_endpoints

# In the order of the documents. The router looks at paths with a variable part in this order too.
HANDLERS: tuple[type, ...] = (
    LeadHandlers,
    LeadListHandlers,
    LeadExportHandlers,
    LeadWriteHandlers,
    LeadBatchHandlers,
    LeadImportHandlers,
    SummaryHandlers,
    LeadHistoryHandlers,
    ChangeHandlers,
    OperationHandlers,
    AccountHandlers,
    HealthHandlers,
    DocumentHandlers,
    StreamHandlers,
    DeadLetterHandlers,
    ReplayHandlers,
    SyncHandlers,
    DoctorHandlers,
    ModelHandlers,
)
ENDPOINTS = tuple(endpoint for handlers in HANDLERS for _, endpoint in declared_endpoints(handlers))
