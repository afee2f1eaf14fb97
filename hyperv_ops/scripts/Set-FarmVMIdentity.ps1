<#
.SYNOPSIS
Makes a clone somebody: its computer name, its address, the password of its share.

.DESCRIPTION
For the first boot of a clone, through PowerShell Direct, which needs no address. What is right already stays; the
password is set again. A guest that has only just booted is waited for: its heartbeat comes before PowerShell Direct
does. The guest is restarted if its name changed, and this does not wait for it.

.PARAMETER Name
The machine.

.PARAMETER Account
An administrator of the guest, without the computer's name, which is about to change.

.PARAMETER Secret
The password of that account.

.PARAMETER Worker
The computer's new name: at most 15 letters, digits and hyphens, not digits alone. Windows takes no other.

.PARAMETER ShareAccount
The local account by which the host comes to the share.

.PARAMETER SharePassword
Its new password, another one for each clone.

.PARAMETER Address
The machine's address on the internal switch.

.PARAMETER PrefixLength
How many bits of the address are the network's.

.PARAMETER Gateway
The way out of the internal switch; none by default.

.PARAMETER TimeoutSeconds
How long the guest may take, its boot included.

.EXAMPLE
.\Set-FarmVMIdentity.ps1 -Name vm-1 -Account farm -Secret $secret -Worker vm-1 -ShareAccount exchange `
    -SharePassword $password -Address 192.168.77.11 -PrefixLength 24

.NOTES
By hand, read secrets into variables first: what is typed on a command line is kept in its history.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Account,

    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Secret,

    [Parameter(Mandatory)]
    [ValidatePattern('^(?!\d+\z)[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?\z')]
    [string] $Worker,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,19}\z')]
    [string] $ShareAccount,

    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $SharePassword,

    [Parameter(Mandatory)]
    [ValidatePattern('^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}\z')]
    [string] $Address,

    [ValidateRange(8, 30)]
    [int] $PrefixLength = 24,

    [ValidatePattern('^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3})?\z')]
    [string] $Gateway = '',

    [ValidateRange(1, 600)]
    [int] $TimeoutSeconds = 120
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
# Commands that are functions of modules do not see this script's $ErrorActionPreference; this reaches them.
$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

function Get-Machine([string] $Name) {
    # The name holds no wildcard (ValidatePattern): this finds that machine or none.
    try {
        $found = @(Hyper-V\Get-VM -Name $Name -ErrorAction SilentlyContinue -ErrorVariable problems)
    } catch [System.Management.Automation.CommandNotFoundException] {
        Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
    }
    if ($found.Count -eq 1) { return $found[0] }
    if ($found.Count -gt 1) {
        Stop-Because 'NotAllowed' "${Name}: $($found.Count) machines have this name; rename all but one"
    }
    # A machine that does not exist is an invalid argument; of anything else it does not follow that there is none.
    $unclear = @($problems | Where-Object { "$($_.CategoryInfo.Category)" -ne 'InvalidArgument' })
    if (@($unclear | Where-Object { "$($_.CategoryInfo.Category)" -eq 'PermissionDenied' }).Count -gt 0) {
        Stop-Because 'NotAllowed' "${env:COMPUTERNAME}: not allowed; join Hyper-V Administrators and log on again"
    }
    if ($unclear.Count -gt 0) { throw $unclear[0] }
    Stop-Because 'NoSuchMachine' "${Name}: no such machine on ${env:COMPUTERNAME}; New-FarmVM makes it"
}

function Wait-Guest($Machine, [pscredential] $Credential, [datetime] $Until) {
    while ($true) {
        $reason = 'no answer'
        try {
            $job = Invoke-Command -VMId $Machine.Id -Credential $Credential -AsJob -ScriptBlock { 'here' }
            if ((Wait-Job -Job $job -Timeout 20) -and "$(Receive-Job -Job $job -ErrorAction Stop)" -eq 'here') { return }
        } catch {
            $reason = $_.Exception.Message
        }
        if ([datetime]::UtcNow -ge $Until) {
            Stop-Because 'GuestRefused' "$($Machine.Name): PowerShell Direct as $($Credential.UserName): $reason"
        }
        Start-Sleep -Seconds 2
    }
}

$machine = Get-Machine $Name
if ("$($machine.State)" -ne 'Running') {
    Stop-Because 'GuestRefused' "${Name}: is $($machine.State); start it first"
}
$restarted = $false
if ($PSCmdlet.ShouldProcess($Name, "become the computer $Worker at $Address/$PrefixLength")) {
    $credential = [pscredential]::new($Account, (ConvertTo-SecureString -String $Secret -AsPlainText -Force))
    $answer = $null
    $deadline = [datetime]::UtcNow.AddSeconds($TimeoutSeconds)
    Wait-Guest $machine $credential $deadline
    try {
        $job = Invoke-Command -VMId $machine.Id -Credential $credential -AsJob `
            -ArgumentList $Worker, $ShareAccount, $SharePassword, $Address, $PrefixLength, $Gateway -ScriptBlock {
                param(
                    [string] $Worker, [string] $ShareAccount, [string] $SharePassword,
                    [string] $Address, [int] $PrefixLength, [string] $Gateway
                )
                $ErrorActionPreference = 'Stop'
                $ProgressPreference = 'SilentlyContinue'
                Set-LocalUser -Name $ShareAccount -PasswordNeverExpires $true `
                    -Password (ConvertTo-SecureString -String $SharePassword -AsPlainText -Force)

                $adapters = @(NetAdapter\Get-NetAdapter -Physical)
                if ($adapters.Count -ne 1) { throw "it has $($adapters.Count) network adapters, and one is expected" }
                $index = $adapters[0].ifIndex
                $there = @(NetTCPIP\Get-NetIPAddress -AddressFamily IPv4 |
                    Where-Object { $_.InterfaceIndex -eq $index -and "$($_.PrefixOrigin)" -eq 'Manual' })
                $routes = @(NetTCPIP\Get-NetRoute -AddressFamily IPv4 | Where-Object {
                    $_.InterfaceIndex -eq $index -and $_.DestinationPrefix -eq '0.0.0.0/0'
                })
                $same = $there.Count -eq 1 -and $there[0].IPAddress -eq $Address -and
                    $there[0].PrefixLength -eq $PrefixLength -and
                    "$($routes | ForEach-Object { $_.NextHop })" -eq $Gateway
                if (-not $same) {
                    NetTCPIP\Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Disabled `
                        -Confirm:$false
                    $there | NetTCPIP\Remove-NetIPAddress -Confirm:$false
                    $routes | NetTCPIP\Remove-NetRoute -Confirm:$false
                    if ($Gateway -ne '') {
                        NetTCPIP\New-NetIPAddress -InterfaceIndex $index -IPAddress $Address `
                            -PrefixLength $PrefixLength -DefaultGateway $Gateway -Confirm:$false | Out-Null
                    } else {
                        NetTCPIP\New-NetIPAddress -InterfaceIndex $index -IPAddress $Address `
                            -PrefixLength $PrefixLength -Confirm:$false | Out-Null
                    }
                }

                # The name that is to be, not the one that is: a rename waits for the next boot.
                $parameters = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'
                if ((Get-ItemProperty -LiteralPath $parameters).'NV Hostname' -ne $Worker) {
                    Rename-Computer -NewName $Worker -Force -Confirm:$false
                }
                [pscustomobject]@{ restart = (Get-ItemProperty -LiteralPath $parameters).Hostname -ne $Worker }
            }
        # Of a guest that does not answer the job is left alone: to stop it would wait for the guest as well.
        $left = [int] ($deadline - [datetime]::UtcNow).TotalSeconds
        if (Wait-Job -Job $job -Timeout ([System.Math]::Max(10, $left))) {
            $answer = Receive-Job -Job $job -ErrorAction Stop
        }
    } catch {
        Stop-Because 'GuestRefused' "${Name}: its identity, as ${Account}: $($_.Exception.Message)"
    }
    if ($null -eq $answer) {
        Stop-Because 'TimedOut' "${Name}: no answer of the guest within $TimeoutSeconds s; try again later"
    }
    if ($answer.restart) {
        # A lost connection is what a restart looks like from here, so the answer is not waited for.
        $job = Invoke-Command -VMId $machine.Id -Credential $credential -AsJob -ScriptBlock {
            Restart-Computer -Force -Confirm:$false
        }
        Wait-Job -Job $job -Timeout 20 | Out-Null
        $restarted = $true
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name; computer = $Worker; address = $Address; restarted = $restarted
})
