-- Health of a ReplicatedDatabase for Argo CD. No more than base and table is there: no string library.
local hs = { status = "Progressing", message = "no operator has looked at it yet" }

if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "it is being deleted"
  return hs
end
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
-- A status that answers to an older manifest says nothing about this one.
if obj.status.observedGeneration ~= obj.metadata.generation then
  hs.message = "no operator has looked at the last change yet"
  return hs
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions.Ready, conditions.Stalled

if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = stalled.reason .. ": " .. (stalled.message or "")
  return hs
end
if ready == nil then
  return hs
end
hs.message = ready.reason .. ": " .. (ready.message or "")
-- The loss of the majority is more than a change under way; while nodes start, the reason is another one.
if ready.reason == "NoQuorum" then
  hs.status = "Degraded"
elseif ready.status == "True" then
  hs.status = "Healthy"
  if ready.reason == "Hibernated" then
    hs.status = "Suspended"
  end
end
return hs
