// The types of the real module, as far as scripts use them. C# 5, which Windows PowerShell 5.1 compiles.
using System;
using System.Collections.Generic;

namespace Microsoft.HyperV.PowerShell
{
    public enum VMState
    {
        Other = 1, Running = 2, Off = 3, Stopping = 4, Saved = 6, Paused = 9, Starting = 10, Reset = 11,
        Saving = 32773, Pausing = 32776, Resuming = 32777, FastSaved = 32779, FastSaving = 32780,
        ForceShutdown = 32781, ForceReboot = 32782, Hibernated = 32783, ComponentServicing = 32784,
        RunningCritical = 32785, OffCritical = 32786, StoppingCritical = 32787, SavedCritical = 32788,
        PausedCritical = 32789, StartingCritical = 32790, ResetCritical = 32791, SavingCritical = 32792,
        PausingCritical = 32793, ResumingCritical = 32794, FastSavedCritical = 32795, FastSavingCritical = 32796
    }
    public enum VMHeartbeatStatus
    {
        Unknown = 0, Disabled = 1, NoContact = 2, Error = 3, LostCommunication = 4,
        OkApplicationsUnknown = 5, OkApplicationsHealthy = 6, OkApplicationsCritical = 7, Paused = 8
    }
    public enum CheckpointType { Disabled = 2, Production = 3, ProductionOnly = 4, Standard = 5 }
    public enum StartAction { Nothing = 2, StartIfRunning = 3, Start = 4 }
    public enum StopAction { TurnOff = 2, Save = 3, ShutDown = 4 }
    public enum VMSwitchType { Private = 0, Internal = 1, External = 2 }
    public enum CopyFileSourceType { Host = 0 }
    public enum VMIntegrationComponentOperationalStatus { Unknown = 0, Ok = 2, Degraded = 3, Error = 6, NonRecoverableError = 7, NoContact = 12, LostCommunication = 13, Dormant = 15, ProtocolMismatch = 32775, ApplicationCritical = 32782, CommunicationTimedOut = 32783, CommunicationFailed = 32784 }

    public enum OnOffState { On = 0, Off = 1 }
    public enum ResolutionType { Maximum = 2, Single = 3, Default = 4 }

    public class VMVideo
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public ResolutionType ResolutionType { get; set; }
        public ushort HorizontalResolution { get; set; }
        public ushort VerticalResolution { get; set; }
    }
    public class VMFirmware
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public OnOffState SecureBoot { get; set; }
        public string SecureBootTemplate { get; set; }
        public object[] BootOrder { get; set; }
    }
    public class VMSecurity
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public bool TpmEnabled { get; set; }
        public bool Shielded { get; set; }
        public bool EncryptStateAndVmMigrationTraffic { get; set; }
        public byte[] KeyProtector;
    }
    public class VMProcessor
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public long Count { get; set; }
        public bool ExposeVirtualizationExtensions { get; set; }
    }
    public class VMGpuPartitionAdapter
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public string Id { get; set; }
        public string InstancePath { get; set; }
        public ulong? MinPartitionVRAM { get; set; }
        public ulong? MaxPartitionVRAM { get; set; }
        public ulong? OptimalPartitionVRAM { get; set; }
        public ulong? MinPartitionEncode { get; set; }
        public ulong? MaxPartitionEncode { get; set; }
        public ulong? OptimalPartitionEncode { get; set; }
        public ulong? MinPartitionDecode { get; set; }
        public ulong? MaxPartitionDecode { get; set; }
        public ulong? OptimalPartitionDecode { get; set; }
        public ulong? MinPartitionCompute { get; set; }
        public ulong? MaxPartitionCompute { get; set; }
        public ulong? OptimalPartitionCompute { get; set; }
    }
    public class DvdDrive
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public string Path { get; set; }
    }
    public class HardDiskDrive
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public string Path { get; set; }
        public string ControllerType { get { return "SCSI"; } }
        public int ControllerNumber { get; set; }
        public int ControllerLocation { get; set; }
    }
    public class VMNetworkAdapter
    {
        public string VMName { get; set; }
        public string Name { get; set; }
        public string SwitchName { get; set; }
        public string MacAddress { get; set; }
        public string[] IPAddresses { get; set; }
    }
    public class VMIntegrationComponent
    {
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public string Name { get; set; }
        public string Id { get; set; }
        public bool Enabled { get; set; }
        public VMIntegrationComponentOperationalStatus? PrimaryOperationalStatus { get; set; }
        public VMIntegrationComponentOperationalStatus[] OperationalStatus { get; set; }
        public string PrimaryStatusDescription { get; set; }
    }
    public class VMSnapshot
    {
        public Guid Id { get; set; }
        public string Name { get; set; }
        public string VMName { get; set; }
        public Guid VMId { get; set; }
        public DateTime CreationTime { get; set; }
        public VMState State { get; set; }
        public bool IsDeleted { get; set; }
        public Dictionary<string, object> Settings;
        public List<string> Disks;
    }
    public class VirtualMachine
    {
        public Guid Id { get; set; }
        public Guid VMId { get { return Id; } }
        public string Name { get; set; }
        public string VMName { get { return Name; } }
        public VMState State { get; set; }
        public string Status { get; set; }
        public VMHeartbeatStatus? Heartbeat { get; set; }
        public TimeSpan Uptime { get; set; }
        public int CPUUsage { get; set; }
        public long MemoryAssigned { get; set; }
        public long MemoryStartup { get; set; }
        public long MemoryMinimum { get; set; }
        public long MemoryMaximum { get; set; }
        public bool DynamicMemoryEnabled { get; set; }
        public long ProcessorCount { get; set; }
        public int Generation { get; set; }
        public bool GuestControlledCacheTypes { get; set; }
        public uint LowMemoryMappedIoSpace { get; set; }
        public ulong HighMemoryMappedIoSpace { get; set; }
        public string Notes { get; set; }
        public string Path { get; set; }
        public string ConfigurationLocation { get; set; }
        public string SnapshotFileLocation { get; set; }
        public CheckpointType CheckpointType { get; set; }
        public bool AutomaticCheckpointsEnabled { get; set; }
        public StartAction AutomaticStartAction { get; set; }
        public int AutomaticStartDelay { get; set; }
        public StopAction AutomaticStopAction { get; set; }
        public bool IsClustered { get; set; }
        public string ComputerName { get; set; }
    }
    public class VMSwitch
    {
        public Guid Id { get; set; }
        public string Name { get; set; }
        public VMSwitchType SwitchType { get; set; }
    }
    public class VMHost
    {
        public string Name { get; set; }
        public int LogicalProcessorCount { get; set; }
        public long MemoryCapacity { get; set; }
        public string VirtualMachinePath { get; set; }
        public string VirtualHardDiskPath { get; set; }
    }
    public class VirtualizationException : Exception
    {
        public VirtualizationException(string message) : base(message) { }
    }
}

namespace Microsoft.Vhd.PowerShell
{
    public enum VhdType { Unknown = 0, Fixed = 2, Dynamic = 3, Differencing = 4 }
    public class VirtualHardDisk
    {
        public string Path { get; set; }
        public string ParentPath { get; set; }
        public string VhdFormat { get; set; }
        public VhdType VhdType { get; set; }
        public bool Attached { get; set; }
        public long Size { get; set; }
        public long FileSize { get; set; }
    }
}
