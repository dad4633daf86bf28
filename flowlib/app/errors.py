"""Errors of apps, under the module path that the field's scripts import them from; all live in ``flowlib.errors``."""

from flowlib.errors import AppAborted as AppAborted
from flowlib.errors import AppBadFormatting as AppBadFormatting
from flowlib.errors import AppException as AppException
from flowlib.errors import AppTimeout as AppTimeout
from flowlib.errors import BadStdStreamFile as BadStdStreamFile
from flowlib.errors import BashAppNoReturn as BashAppNoReturn
from flowlib.errors import BashExitFailure as BashExitFailure
from flowlib.errors import FlowlibError as FlowlibError
from flowlib.errors import GeneratorResult as GeneratorResult
from flowlib.errors import MissingOutputs as MissingOutputs
from flowlib.errors import RemoteError as RemoteError
from flowlib.serialize.remote import RemoteExceptionWrapper as RemoteExceptionWrapper
